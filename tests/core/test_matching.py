"""Every leaf and every tensor is accounted for, kernels are turned, nothing is forced to fit."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tlx.contracts.dialect import Conventions, Dialect, Row
from tlx.errors import WeightsError
from tlx.trees import flat
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

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
ROWS = (
    Row("conv.weight", "params/backbone/conv/kernel", "kernel"),
    Row("conv.bias", "params/backbone/conv/bias"),
    Row("embed.weight", "params/backbone/embed/embedding"),
    Row("fc.weight", "params/head/kernel", "kernel"),
    Row("bn.running_mean", "state/backbone/bn/mean"),
)
TABLE = (Dialect("table", ROWS),)
DRAW = np.random.default_rng(0)
TORCH = {
    "conv.weight": DRAW.normal(size=(4, 2, 3, 3)).astype(np.float32),
    "conv.bias": DRAW.normal(size=4).astype(np.float32),
    "embed.weight": DRAW.normal(size=(5, 4)).astype(np.float32),
    "fc.weight": DRAW.normal(size=(2, 4)).astype(np.float32),
    "bn.running_mean": DRAW.normal(size=4).astype(np.float32),
    "bn.num_batches_tracked": np.array(3),
}


def read(tensors, like=LIKE, dialects=TABLE):
    return match(Tensors(tensors, "x", "abc"), like, dialects)


def one(row, tensor, leaf, **conventions):
    """What a single row makes of a tensor for a leaf `params/backbone/a`."""
    like = Variables({"backbone": {"a": leaf}}, {})
    dialect = Dialect("d", (Row("t", "params/backbone/a", *row),), **conventions)
    variables, report = read({"t": tensor}, like, (dialect,))
    return np.asarray(variables.params["backbone"]["a"]), report, dialect, variables


def test_foreign_names_and_layouts():
    variables, report = read(TORCH)
    assert sorted(leaf.path for leaf in report.loaded) == sorted(row.ours for row in ROWS)
    assert (report.initialised, report.skipped, report.notes) == ((), (), ())
    assert (report.dialect, report.sha256) == ("table", "abc")
    assert all(leaf.change == "" for leaf in report.loaded)
    found = flat(variables)
    for index in np.ndindex(4, 2, 3, 3):
        out, into, row, column = index
        kernel = found["params/backbone/conv/kernel"]
        assert kernel[row, column, into, out] == TORCH["conv.weight"][index]
    np.testing.assert_array_equal(found["params/head/kernel"], TORCH["fc.weight"].T)
    # the outputs of an embedding are its last axis in PyTorch, too
    np.testing.assert_array_equal(found["params/backbone/embed/embedding"], TORCH["embed.weight"])
    assert jax.tree.structure(variables) == jax.tree.structure(LIKE)


def test_back_again_to_the_bit():
    back = state_dict(read(TORCH)[0], TABLE[0])
    del (wanted := dict(TORCH))["bn.num_batches_tracked"]
    assert set(back) == set(wanted)
    for name, tensor in wanted.items():
        assert (back[name].tobytes(), back[name].shape) == (tensor.tobytes(), tensor.shape)
    with pytest.raises(WeightsError, match=r"no name for 1 leaves: params/head/kernel"):
        state_dict(read(TORCH)[0], Dialect("short", (*ROWS[:3], ROWS[4])))


def test_leaf_paths_are_taken_as_they_are_even_beside_a_table():
    own = {path: np.full(leaf.shape, 2, np.float32) for path, leaf in flat(LIKE).items()}
    for dialects in ((), TABLE):
        variables, report = read(own, dialects=dialects)
        assert (len(report.loaded), report.dialect) == (len(own), "")
        assert all((leaf == 2).all() for leaf in jax.tree.leaves(variables))


def test_the_dialect_that_fits_best_is_taken():
    other = Dialect("other", (Row("fc.weight", "params/head/kernel"), *ROWS[1:3]))
    assert read(TORCH, dialects=(other, *TABLE))[1].dialect == "table"
    assert read({"conv.bias": TORCH["conv.bias"]}, dialects=(other, *TABLE))[1].dialect == "other"


def test_a_prefix_may_stand_before_all_names():
    wrapped = {f"module.{name}": tensor for name, tensor in TORCH.items()}
    report = read(wrapped)[1]
    assert (len(report.loaded), report.skipped) == (5, ())


def test_what_does_not_fit_keeps_its_value_and_is_reported():
    tensors = {
        **TORCH,
        "fc.weight": np.ones((7, 4), np.float32),
        "conv.bias": np.ones(4, np.int32),
        "extra": np.ones(1),
    }
    del tensors["bn.running_mean"]
    variables, report = read(tensors)
    leaves = [*report.loaded, *report.initialised]
    assert sorted(leaf.path for leaf in leaves) == sorted(flat(LIKE))
    assert {leaf.path: (leaf.shape, leaf.why) for leaf in report.initialised} == {
        "params/head/kernel": ((4, 2), "its shape is (4, 7) in the file and (4, 2) in the model"),
        "params/backbone/conv/bias": (
            (4,),
            "its type is int32 in the file and float32 in the model",
        ),
        "state/backbone/bn/mean": ((4,), "the file has no tensor for it"),
    }
    skipped = {tensor.name: (tensor.shape, tensor.why) for tensor in report.skipped}
    assert skipped["extra"][1].startswith("it stands among the layers of the network")
    assert skipped["fc.weight"][0] == (7, 4)
    assert set(skipped) == {"extra", "fc.weight", "conv.bias"}
    assert variables.params["head"]["kernel"] is LIKE.params["head"]["kernel"]


def test_a_name_that_is_nearly_a_leaf_gets_a_hint():
    _, report = read({"params/head/kernal": np.zeros((4, 2))}, dialects=())
    assert "Did you mean 'params/head/kernel'?" in report.skipped[0].why
    table = Dialect("d", (*ROWS, Row("fc", "params/head/bias")))
    _, report = read({**TORCH, "fc": np.zeros(2)}, dialects=(table,))
    assert "no such leaf 'params/head/bias'" in report.skipped[0].why


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_floats_of_another_width_are_converted_and_said(dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in TORCH.items() if "num" not in name}
    variables, report = read(tensors)
    assert len(report.loaded) == 5
    assert report.notes == (f"5 leaves converted from {np.dtype(dtype).name} to float32",)
    kernel = variables.params["head"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, tensors["fc.weight"].T.astype(np.float32))


def test_numbers_that_are_not_finite_are_refused_where_they_are_used():
    bad = {**TORCH, "fc.weight": np.full((2, 4), np.nan, np.float32)}
    with pytest.raises(WeightsError, match=r"'fc\.weight' in x holds a number that is not finite"):
        read(bad)
    with pytest.raises(WeightsError, match="as float32"):
        read({"conv.bias": np.full(4, 1e300)})
    assert read({**TORCH, "mask": np.array([-np.inf])})[1].skipped


def test_a_leaf_that_is_there_twice_is_refused():
    also = Dialect("table", (*ROWS, Row("linear.weight", "params/head/kernel", "kernel")))
    twice = {**TORCH, "linear.weight": TORCH["fc.weight"]}
    with pytest.raises(WeightsError, match=r"twice: as 'fc\.weight' and as 'linear\.weight'"):
        read(twice, dialects=(also,))


@pytest.mark.parametrize("name", ["bn/var", "norm/running_var", "n/moving_variance", "v/variance"])
def test_a_variance_below_zero_is_refused_by_name(name):
    leaf = jnp.ones(3)
    for part in reversed(name.split("/")):
        leaf = {part: leaf}
    like = Variables({}, {"backbone": leaf})
    rows = Dialect("d", (Row("bn.running_var", f"state/backbone/{name}", "variance"),))
    own = {f"state/backbone/{name}": np.float32([1, -0.5, 2])}
    with pytest.raises(WeightsError, match=rf"{name}' in x is a running variance and holds -0\.5"):
        read(own, like, dialects=())
    for bad, said in ((-0.5, "a running variance and holds -0.5"), (np.nan, "not finite")):
        with pytest.raises(WeightsError, match=rf"'m\.bn\.running_var' in x .*{said}"):
            read({"m.bn.running_var": np.float32([1, bad, 2])}, like, dialects=(rows,))
    zero = read({"bn.running_var": np.zeros(3, np.float32)}, like, dialects=(rows,))[1]
    assert len(zero.loaded) == 1


def test_random_keys_are_not_weights():
    like = Variables({}, {"backbone": {"rng": jax.random.key(0)}})
    variables, report = read({"state/backbone/rng": np.zeros(2, np.uint32)}, like)
    assert report.loaded == ()
    assert "random key" in report.initialised[0].why
    assert variables.state["backbone"]["rng"] == jax.random.key(0)
    assert state_dict(variables, TABLE[0]) == {}


def test_shapes_alone_will_do():
    variables, report = read(TORCH, jax.eval_shape(lambda: LIKE))
    assert len(report.loaded) == 5
    assert isinstance(variables.params["head"]["kernel"], jax.Array)


def test_parts_of_one_tensor():
    rows = tuple(Row("qkv", f"params/backbone/{n}", "kernel", (i, 3)) for i, n in enumerate("qkv"))
    like = Variables({"backbone": {n: jnp.zeros((4, 2)) for n in "qkv"}}, {})
    fused = DRAW.normal(size=(6, 4)).astype(np.float32)
    dialect = Dialect("timm", rows)
    variables, report = read({"qkv": fused}, like, (dialect,))
    assert (len(report.loaded), report.skipped) == (3, ())
    for i, name in enumerate("qkv"):
        leaf = variables.params["backbone"][name]
        np.testing.assert_array_equal(leaf, fused[2 * i : 2 * i + 2].T)
    np.testing.assert_array_equal(state_dict(variables, dialect)["qkv"], fused)
    _, report = read({"qkv": fused[:5]}, like, (dialect,))
    assert [leaf.why for leaf in report.initialised] == [
        "its shape is (5, 4) in the file and (4, 2) in the model"
    ] * 3


def test_a_stem_for_another_number_of_channels_gives_the_same_on_grey():
    grey = DRAW.normal(size=(2, 5, 5, 1)).astype(np.float32)
    colour = DRAW.normal(size=(4, 3, 3, 3)).astype(np.float32)

    def convolved(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    wanted = convolved(np.repeat(grey, 3, -1), colour.transpose(2, 3, 1, 0))
    summed, report, *_ = one(("stem",), colour, jnp.zeros((3, 3, 1, 4)))
    np.testing.assert_allclose(convolved(grey, summed), wanted, atol=1e-5)
    assert report.loaded[0].change == "summed over its 3 input channels"
    repeated, report, *_ = one(("stem",), colour[:, :1], jnp.zeros((3, 3, 3, 4)))
    wanted = convolved(grey, colour[:, :1].transpose(2, 3, 1, 0))
    np.testing.assert_allclose(convolved(np.repeat(grey, 3, -1), repeated), wanted, atol=1e-5)
    assert "repeated to 3 and divided by 3" in report.loaded[0].change
    assert one(("stem",), colour, jnp.zeros((3, 3, 3, 4)))[1].loaded[0].change == ""


def test_a_leaf_path_is_fitted_to_other_pictures_too():
    rows = (Row("conv1.weight", "params/backbone/a", "stem"),)
    like = Variables({"backbone": {"a": jnp.zeros((3, 3, 1, 4))}}, {})
    kernel = DRAW.normal(size=(3, 3, 3, 4)).astype(np.float32)
    variables, report = read({"params/backbone/a": kernel}, like, (Dialect("d", rows),))
    np.testing.assert_allclose(variables.params["backbone"]["a"], kernel.sum(2, keepdims=True))
    assert report.loaded[0].change == "summed over its 3 input channels"
    assert report.dialect == ""


def test_another_epsilon_moves_the_variance_so_that_the_layer_stays():
    theirs, ours = Conventions("OIHW", norm_eps=1e-3), Conventions("HWIO", norm_eps=1e-5)
    var = np.array([0.5, 2, 3], np.float32)
    leaf, report, dialect, variables = one(
        ("variance",), var, jnp.zeros(3), theirs=theirs, ours=ours
    )
    np.testing.assert_allclose(leaf + ours.norm_eps, var + theirs.norm_eps, rtol=1e-6)
    assert "shifted by 0.00099" in report.loaded[0].change
    np.testing.assert_allclose(state_dict(variables, dialect)["t"], var, rtol=1e-6)


def test_batch_norm_that_was_folded_becomes_the_identity():
    leaves = {"scale": "one", "mean": "zero", "var": "unit", "bias": "same"}
    rows = tuple(Row("conv.bias", f"params/backbone/{n}", how) for n, how in leaves.items())
    like = Variables({"backbone": {name: jnp.full(3, 7.0) for name in leaves}}, {})
    bias = np.array([1, -2, 3], np.float32)
    variables, report = read({"conv.bias": bias}, like, (Dialect("folded", rows),))
    bn = variables.params["backbone"]
    x = DRAW.normal(size=(5, 3)).astype(np.float32)
    normed = (x - bn["mean"]) / np.sqrt(bn["var"] + 1e-5) * bn["scale"] + bn["bias"]
    np.testing.assert_allclose(normed, x + bias, atol=1e-5)
    assert sum("folded" in leaf.change for leaf in report.loaded) == 3
    assert "set to the identity" in report.notes[0]
    assert "frozen" not in report.notes[0], "advice that nobody has measured"


def test_flat_tensors_change_their_shape_and_come_back_where_it_is_said():
    heads = DRAW.normal(size=(4, 2, 2)).astype(np.float32)
    leaf, _, dialect, variables = one(("flat",), heads, jnp.zeros((4, 4)))
    np.testing.assert_array_equal(leaf, heads.reshape(4, 4))
    with pytest.raises(WeightsError, match="no name for 1 leaves"):
        state_dict(variables, dialect)
    leaf, _, dialect, variables = one(("flat", None, (4, -1, 2)), heads, jnp.zeros((4, 4)))
    np.testing.assert_array_equal(state_dict(variables, dialect)["t"], heads)
    assert one(("flat",), heads, jnp.zeros((4, 5)))[1].loaded == ()


def test_positions_of_another_grid_are_resampled_and_said():
    table = DRAW.normal(size=(1, 1 + 16, 2)).astype(np.float32)
    leaf, report, *_ = one(("positions",), table, jnp.zeros((1, 1 + 4, 2)))
    assert report.loaded[0].change == "resampled from a grid of 4x4 to 2x2"
    np.testing.assert_array_equal(leaf[:, 0], table[:, 0])
    same, report, *_ = one(("positions",), table, jnp.zeros((1, 1 + 16, 2)))
    assert report.loaded[0].change == ""
    np.testing.assert_array_equal(same, table)
    assert one(("positions",), table, jnp.zeros((1, 3, 2)))[1].loaded == ()


def test_a_file_that_pads_otherwise_is_refused_and_another_momentum_is_said():
    after = Dialect("keras", ROWS, Conventions("OIHW", "after"))
    with pytest.raises(WeightsError, match=r"x is of the kind 'keras', which pads .* 'after'"):
        read(TORCH, dialects=(after,))
    slow = Dialect("slow", ROWS, Conventions("OIHW", norm_momentum=0.99))
    assert "0.99 where the file was made" in read(TORCH, dialects=(slow,))[1].notes[0]
