"""Any Haiku module as a Backbone: against Haiku's own passes, the kit, and real runs."""

import re
import tomllib
from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save
from tlx_haiku.backbone import wrap_haiku
from tlx_image import ImageInput

from tlx import registry, trees
from tlx.errors import ContractError
from tlx.testing import check
from tlx.testing.compiling import quick_jit
from tlx.testing.descent import descends
from tlx.testing.dropping import separates_modes
from tlx.testing.stages import same_in_turn
from tlx.testing.transfers import transfers
from tlx.types import FeatureSpec, Variables

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))
NAMES = ("shallow", "pooled")
SEPARATE = {
    "train": {"is_training": True, "drop": True},
    "tune": {"is_training": False, "drop": True},
    "eval": {"is_training": False, "drop": False},
}
CHECKS = {"check_gradient", "check_stages_equal_apply", "check_eval_keeps_state"}


class Net(hk.Module):
    """Batch norm in `__init__`, convolutions in the call, dropout; two features."""

    def __init__(self, width=8, dropout=0.25, name=None):
        super().__init__(name)
        self.width, self.dropout = width, dropout
        self.norm = hk.BatchNorm(True, True, decay_rate=0.9)

    def __call__(self, x, is_training, drop=None):
        shallow = jax.nn.relu(hk.Conv2D(8, 3)(x))
        deep = self.norm(hk.Conv2D(self.width, 3, stride=2)(shallow), is_training)
        pooled = hk.Flatten()(jax.nn.relu(deep))
        if drop or (drop is None and is_training):
            pooled = hk.dropout(hk.next_rng_key(), self.dropout, pooled)
        return {"shallow": shallow, "pooled": pooled}


class Staged(hk.Module):
    """Runs in two pieces, each with dropout; batch norm in the second."""

    def __init__(self, name=None):
        super().__init__(name)
        self.layers = {
            "bottom": (hk.Conv2D(4, 2, stride=2, name="bottom"),),
            "top": (hk.BatchNorm(True, True, 0.9, name="top"),),
        }

    def stage(self, name, x, is_training):
        (layer,) = self.layers[name]
        x = layer(x) if name == "bottom" else layer(x, is_training)
        x = hk.dropout(hk.next_rng_key(), 0.5, x) if is_training else x
        return x, {name: x}


def functional(width):
    """No module of its own: a function that calls some, and a bare array as its output."""

    def run(x):
        x = hk.Conv2D(width, 4, stride=4)(x).reshape(len(x), -1, width)
        x = hk.LayerNorm(-1, True, True)(x)
        return x + hk.Embed(x.shape[1], width)(jnp.arange(x.shape[1]))

    return run


def net(dropout: float = 0.25):
    return wrap_haiku(Net, NAMES, INPUTS, options={"dropout": dropout}, modes=SEPARATE)


def usual():
    return wrap_haiku(Net, NAMES, INPUTS)


def staged():
    return wrap_haiku(Staged, ("bottom", "top"), INPUTS, stages=("bottom", "top"))


def patches():
    modes = {"train": {}, "tune": {}, "eval": {}}
    return wrap_haiku(functional, ("patches",), INPUTS, options={"width": 6}, modes=modes)


@pytest.fixture(scope="module")
def made():
    backbone = net()
    x = jax.random.normal(KEY, (16, 8, 8, 3))
    return (
        backbone,
        quick_jit(backbone.init)(KEY, x),
        x,
        quick_jit(backbone.apply, static_argnames="mode"),
    )


@pytest.mark.parametrize("reference", ["usual", "staged", "patches"])
def test_conformance(reference):
    assert set(check("backbones", f"{__file__}:{reference}")) >= CHECKS


def test_features_are_measured(made):
    backbone, *_ = made
    assert backbone.features == (
        FeatureSpec("shallow", "map", 8, 1),
        FeatureSpec("pooled", "vector", 128, None),
    )
    assert patches().features == (FeatureSpec("patches", "tokens", 6),)
    assert backbone != net(dropout=0.5)


def test_leaf_paths_are_the_names_of_haiku_and_survive_a_file(made):
    _, (params, state), x, _ = made
    own = hk.transform_with_state(lambda x: Net()(x, True))
    theirs, memory = jax.eval_shape(own.init, KEY, x)
    assert list(trees.flat(params)) == sorted(
        f"{m}/{n}" for m, n, _ in hk.data_structures.traverse(theirs)
    )
    assert "net/conv2_d_1/w" in trees.flat(params)
    assert "net/~/batch_norm/~/mean_ema/average" in trees.flat(state)
    assert len(trees.flat(state)) == len(jax.tree.leaves(memory)) == 6
    leaves = trees.flat({"params": params, "state": state})
    read = load(save({path: np.asarray(leaf) for path, leaf in leaves.items()}))
    back = trees.unflat({"params": params, "state": state}, read)
    jax.tree.map(np.testing.assert_array_equal, back, {"params": params, "state": state})


def test_the_name_tells_the_kind(made):
    backbone, *_ = made
    assert backbone.leaf("net/conv2_d/w")[:2] == ("all", "kernel")
    assert backbone.leaf("net/conv2_d/b")[:2] == ("all", "bias")
    assert backbone.leaf("net/~/batch_norm/offset")[:2] == ("all", "norm")
    assert staged().leaf("staged/~/top/scale")[:2] == ("top", "norm")
    assert patches().leaf("embed/embeddings")[:2] == ("all", "embedding")
    assert patches().leaf("layer_norm/scale").kind == "norm"
    with pytest.raises(ContractError, match="Did you mean 'net/conv2_d/w'"):
        backbone.leaf("net/conv2d/w")


def test_all_modes_are_the_passes_of_haiku_itself():
    backbone = net(dropout=0.0)
    own = hk.transform_with_state(lambda x, training: Net(dropout=0.0)(x, training))
    run = quick_jit(own.apply, static_argnums=4)
    batches = [jax.random.normal(jax.random.key(n), (16, 8, 8, 3)) for n in range(3)]
    params, state = quick_jit(backbone.init)(KEY, batches[0])
    theirs, memory = quick_jit(own.init, static_argnums=2)(KEY, batches[0], True)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    same = {"rtol": 1e-5, "atol": 1e-6}

    def alike(ours, wanted):
        assert len(jax.tree.leaves(ours)) == len(jax.tree.leaves(wanted))
        for module, name, value in hk.data_structures.traverse(wanted):
            np.testing.assert_allclose(trees.flat(ours)[f"{module}/{name}"], value, **same)

    alike(params, theirs)
    for x in batches:
        features, state = apply(params, state, x, rng=KEY, mode="train")
        wanted, memory = run(theirs, memory, KEY, x, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **same), dict(features), wanted)
    alike(state, memory)
    wanted, _ = run(theirs, memory, KEY, batches[0], False)
    for mode in ("tune", "eval"):
        features, _ = apply(params, state, batches[0], rng=KEY, mode=mode)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **same), dict(features), wanted)


def test_dropout_and_batch_norm_go_by_mode_separately(made):
    _, (params, state), x, apply = made
    # Before the first pass all averages of Haiku are zero.
    _, state = apply(params, state, 2 * x + 1, rng=KEY, mode="train")
    separates_modes(apply, Variables(params, state), x, rate=0.25)


def test_one_argument_cannot_say_tune(made):
    _, (params, state), x, _ = made
    backbone = usual()
    assert backbone.modes == {"train", "eval"}
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        backbone.apply(params, state, x, rng=KEY, mode="tune")


def test_stages_in_turn_are_apply_in_mode_train():
    x = jax.random.normal(KEY, (4, 8, 8, 3))
    backbone = staged()
    variables = quick_jit(backbone.init)(KEY, x)
    (bottom, top), after = same_in_turn(backbone, variables, x, rng=KEY, mode="train")
    assert after["staged"]["~"]["top"]["~"]["mean_ema"]["counter"] == 1
    assert not np.array_equal(bottom["bottom"] == 0, top["top"] == 0)


def test_a_few_steps_of_training_descend(made):
    backbone, variables, x, _ = made
    descends(backbone, variables, x)


def test_a_feature_that_is_not_there_is_a_sentence():
    with pytest.raises(ContractError, match="does not return the feature 'pool'"):
        wrap_haiku(Net, ("shallow", "pool"), INPUTS)


def test_the_network_of_the_readme(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    ((_, code), (_, table)) = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_haiku.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = tomllib.loads(table)["backbone"]
    backbone = registry.build("backbones", options.pop("name"), options)
    assert backbone.modes == {"train", "tune", "eval"}
    assert backbone.features == (
        FeatureSpec("map", "map", 32, 2),
        FeatureSpec("pooled", "vector", 32),
    )


@pytest.mark.slow
def test_real_runs_on_digits(tmp_path):
    results = transfers(f"{__file__}:net", tmp_path)
    print({name: result["test"] for name, result in results.items()})
    assert results["feature-transfer"]["test"]["accuracy"] > 0.8
    assert results["l2-sp"]["test"]["accuracy"] > 0.8


class Stacked(hk.Module):
    def __call__(self, x, is_training):
        def block(x):
            return x + hk.Linear(8)(hk.LayerNorm(-1, True, True)(x))

        x = hk.Conv2D(8, 4, stride=4)(x).reshape(len(x), -1, 8)
        return hk.experimental.layer_stack(3)(block)(x)


class Plain(hk.Module):
    def __call__(self, x):
        return hk.Conv2D(4, 3)(x)


class Training(hk.Module):
    def __call__(self, x, training):
        return hk.Conv2D(4, 3)(x)


def test_a_stack_of_layers_has_its_axis():
    backbone = wrap_haiku(Stacked, ("tokens",), INPUTS)
    stack = "stacked/__layer_stack_no_per_layer"
    assert backbone.leaf(f"{stack}/linear/w")[1:] == ("kernel", -1, (0,))
    assert backbone.leaf(f"{stack}/layer_norm/scale")[1:] == ("norm", -1, (0,))
    assert backbone.leaf("stacked/conv2_d/w")[1:] == ("kernel", -1, ())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Plain, r"Haiku module Plain \(test_wrap_haiku.py, line \d+\).*takes none.*modes="),
        (Training, r"takes training.*modes=\{\"train\": \{\"training\": True\}"),
        (lambda: lambda x, is_training: (x, x), r"returns a tuple of 2 but has the features"),
        (lambda: lambda x, is_training: 1 / 0, r"ZeroDivisionError: division by zero\."),
    ],
)
def test_what_does_not_run_is_told_when_it_is_wrapped(build, said):
    with pytest.raises(ContractError, match=said):
        wrap_haiku(build, ("pooled",), INPUTS)
