"""Every leaf and every tensor is accounted for, kernels are turned, nothing is forced to fit."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from tlx_weights.matching import match

from tlx.errors import WeightsError
from tlx.trees import flat
from tlx.types import Variables

LIKE = Variables(
    {
        "backbone": {
            "conv": {"kernel": jnp.zeros((3, 3, 2, 4)), "bias": jnp.zeros(4)},
            "embed": {"embedding": jnp.zeros((5, 4))},
        },
        "head": {"kernel": jnp.zeros((4, 2))},
    },
    {"backbone": {"bn": {"mean": jnp.zeros(4)}}, "head": {}},
)
NAMES = {
    "conv.weight": "params/backbone/conv/kernel",
    "conv.bias": "params/backbone/conv/bias",
    "embed.weight": "params/backbone/embed/embedding",
    "fc.weight": "params/head/kernel",
    "bn.running_mean": "state/backbone/bn/mean",
}
DRAW = np.random.default_rng(0)
TORCH = {
    "conv.weight": DRAW.normal(size=(4, 2, 3, 3)).astype(np.float32),
    "conv.bias": DRAW.normal(size=4).astype(np.float32),
    "embed.weight": DRAW.normal(size=(5, 4)).astype(np.float32),
    "fc.weight": DRAW.normal(size=(2, 4)).astype(np.float32),
    "bn.running_mean": DRAW.normal(size=4).astype(np.float32),
    "bn.num_batches_tracked": np.array(3),
}


def accounted(report, tensors):
    """Every leaf is loaded or initialised, and exactly one of the two."""
    leaves = [*report.loaded, *(path for path, _ in report.initialised)]
    assert sorted(leaves) == sorted(flat(LIKE))
    assert all(why for _, why in (*report.initialised, *report.skipped))


def test_foreign_names_and_layouts():
    variables, report = match("x.npz", TORCH, LIKE, NAMES.get)
    assert sorted(report.loaded) == sorted(NAMES.values())
    assert (report.initialised, report.skipped) == ((), ())
    found = flat(variables)
    for index in np.ndindex(4, 2, 3, 3):
        out, into, row, column = index
        kernel = found["params/backbone/conv/kernel"]
        assert kernel[row, column, into, out] == TORCH["conv.weight"][index]
    np.testing.assert_array_equal(found["params/head/kernel"], TORCH["fc.weight"].T)
    # the outputs of an embedding are its last axis in PyTorch, too
    np.testing.assert_array_equal(found["params/backbone/embed/embedding"], TORCH["embed.weight"])
    assert jax.tree.structure(variables) == jax.tree.structure(LIKE)


def test_leaf_paths_are_taken_as_they_are_even_beside_a_table():
    own = {path: np.full(leaf.shape, 2, np.float32) for path, leaf in flat(LIKE).items()}
    for names in (None, NAMES.get):
        variables, report = match("x", own, LIKE, names)
        assert len(report.loaded) == len(own)
        assert all((leaf == 2).all() for leaf in jax.tree.leaves(variables))


def test_the_layout_can_be_said():
    own = {"params/head/kernel": TORCH["fc.weight"]}
    variables, report = match("x", own, LIKE, None, layout="torch")
    np.testing.assert_array_equal(variables.params["head"]["kernel"], TORCH["fc.weight"].T)
    assert report.loaded == ("params/head/kernel",)
    foreign = {"fc.weight": TORCH["fc.weight"].T}
    assert match("x", foreign, LIKE, NAMES.get, layout="jax")[1].loaded == ("params/head/kernel",)


def test_what_does_not_fit_keeps_its_value_and_is_reported():
    tensors = {
        **TORCH,
        "fc.weight": np.ones((7, 4), np.float32),
        "conv.bias": np.ones(4, np.int32),
        "extra": np.ones(1),
    }
    del tensors["bn.running_mean"]
    variables, report = match("x", tensors, LIKE, NAMES.get)
    accounted(report, tensors)
    assert dict(report.initialised) == {
        "params/head/kernel": "its shape is (4, 7) in the file and (4, 2) in the model",
        "params/backbone/conv/bias": "its type is int32 in the file and float32 in the model",
        "state/backbone/bn/mean": "the file has no tensor for it",
    }
    assert dict(report.skipped)["extra"] == "not a part of this network"
    assert {"fc.weight", "conv.bias"} < set(dict(report.skipped))
    assert variables.params["head"]["kernel"] is LIKE.params["head"]["kernel"]


def test_a_name_that_is_nearly_a_leaf_gets_a_hint():
    _, report = match("x", {"params/head/kernal": np.zeros((4, 2))}, LIKE, None)
    assert "Did you mean 'params/head/kernel'?" in report.skipped[0][1]
    _, report = match("x", {"fc": np.zeros(2)}, LIKE, {"fc": "params/head/bias"}.get)
    assert "no such leaf 'params/head/bias'" in report.skipped[0][1]
    assert len(report.initialised) == len(flat(LIKE))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_floats_of_another_width_are_converted_and_said(dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in TORCH.items() if "num" not in name}
    variables, report = match("x", tensors, LIKE, NAMES.get)
    assert len(report.loaded) == 5
    assert report.skipped == (
        (np.dtype(dtype).name, "5 of the loaded leaves were converted to float32"),
    )
    kernel = variables.params["head"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, tensors["fc.weight"].T.astype(np.float32))


def test_numbers_that_are_not_finite_are_refused_where_they_are_used():
    bad = {**TORCH, "fc.weight": np.full((2, 4), np.nan, np.float32)}
    with pytest.raises(WeightsError, match=r"'fc\.weight' in x holds a number that is not finite"):
        match("x", bad, LIKE, NAMES.get)
    too_large = {"conv.bias": np.full(4, 1e300)}
    with np.errstate(over="ignore"), pytest.raises(WeightsError, match="as float32"):
        match("x", too_large, LIKE, NAMES.get)
    assert match("x", {**TORCH, "mask": np.array([-np.inf])}, LIKE, NAMES.get)[1].skipped


def test_a_leaf_that_is_there_twice_is_refused():
    twice = {**TORCH, "module.fc.weight": TORCH["fc.weight"]}
    with pytest.raises(WeightsError, match=r"twice: as 'fc\.weight' and as 'module\.fc\.weight'"):
        match("x", twice, LIKE, lambda name: NAMES.get(name.removeprefix("module.")))


def test_random_keys_are_not_weights():
    like = Variables({}, {"backbone": {"rng": jax.random.key(0)}})
    tensors = {"state/backbone/rng": np.zeros(2, np.uint32)}
    variables, report = match("x", tensors, like, None)
    assert report.loaded == ()
    assert "random key" in report.initialised[0][1]
    assert variables.state["backbone"]["rng"] == jax.random.key(0)


def test_shapes_alone_will_do():
    like = jax.eval_shape(lambda: LIKE)
    variables, report = match("x", TORCH, like, NAMES.get)
    assert len(report.loaded) == 5
    assert isinstance(variables.params["head"]["kernel"], jax.Array)
