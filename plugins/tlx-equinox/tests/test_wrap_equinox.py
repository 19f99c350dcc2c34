"""Any Equinox module as a Backbone: against Equinox's own passes, the kit, and real runs."""

import re
import tomllib
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save
from tlx_equinox.backbone import wrap_equinox
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
from tlx.weights.matching import match

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))
CHECKS = {"check_gradient", "check_stages_equal_apply", "check_eval_keeps_state"}


class Net(eqx.Module):
    """Batch norm, dropout, a list of layers and a buffer that is no parameter; two features."""

    convs: list[eqx.nn.Conv2d]
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    order: jax.Array

    def __init__(self, key, width=8, dropout=0.25, mode="batch"):
        first, second = jax.random.split(key)
        self.convs = [
            eqx.nn.Conv2d(3, 8, 3, padding=1, key=first),
            eqx.nn.Conv2d(8, width, 3, stride=2, padding=1, key=second),
        ]
        self.norm = eqx.nn.BatchNorm(width, "batch", momentum=0.9, mode=mode)
        self.drop = eqx.nn.Dropout(dropout)
        self.order = jnp.arange(width)[::-1]

    def __call__(self, x, state, *, key):
        shallow = jax.nn.relu(self.convs[0](x))
        deep, state = self.norm(self.convs[1](shallow), state)
        pooled = jax.nn.relu(deep)[self.order].reshape(-1)
        return {"shallow": shallow, "pooled": self.drop(pooled, key=key)}, state


class Staged(eqx.Module):
    """Runs in two pieces, each with dropout; batch norm in the second."""

    bottom: eqx.nn.Sequential
    top: eqx.nn.Sequential

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.bottom = eqx.nn.Sequential(
            [eqx.nn.Conv2d(3, 4, 2, stride=2, key=first), eqx.nn.Dropout(0.5)]
        )
        self.top = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(4, 5, 1, key=second),
                eqx.nn.BatchNorm(5, "batch", mode="batch"),
                eqx.nn.Dropout(0.5),
            ]
        )

    def stage(self, name, x, state, *, key):
        x, state = getattr(self, name)(x, state=state, key=key)
        return x, {name: x}, state


class Patches(eqx.Module):
    """No state, channels last, and a bare array as its output."""

    embedding: jax.Array
    norm: eqx.nn.LayerNorm
    table: eqx.nn.Embedding

    def __init__(self, key):
        self.embedding = jax.random.normal(key, (48, 6))
        self.norm = eqx.nn.LayerNorm(6)
        self.table = eqx.nn.Embedding(4, 6, key=key)

    def __call__(self, x, *, key):
        x = x.reshape(2, 4, 2, 4, 3).swapaxes(1, 2).reshape(4, 48) @ self.embedding
        return jax.vmap(self.norm)(x + jax.vmap(self.table)(jnp.arange(4)))


def net(dropout: float = 0.25, mode: str = "batch"):
    options = {"dropout": dropout, "mode": mode}
    return wrap_equinox(Net, ("shallow", "pooled"), INPUTS, options=options)


def staged():
    return wrap_equinox(Staged, ("bottom", "top"), INPUTS, stages=("bottom", "top"))


def patches():
    return wrap_equinox(Patches, ("patches",), INPUTS, channels="last")


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


@pytest.mark.parametrize("reference", ["staged", "patches"])
def test_conformance(reference):
    assert set(check("backbones", f"{__file__}:{reference}")) >= CHECKS


def test_features_are_measured_with_channels_last(made):
    backbone, *_ = made
    assert backbone.features == (
        FeatureSpec("shallow", "map", 8, 1),
        FeatureSpec("pooled", "vector", 128, None),
    )
    assert patches().features == (FeatureSpec("patches", "tokens", 6),)
    assert backbone != net(dropout=0.5)


def test_leaf_paths_are_attributes_and_survive_a_file(made):
    _, (params, state), *_ = made
    assert set(trees.flat(params)) == {
        "convs/0/weight", "convs/0/bias", "convs/1/weight", "convs/1/bias",
        "norm/weight", "norm/bias",
    }  # fmt: skip
    assert set(trees.flat(state)) == {
        "norm/batch_counter", "norm/batch_state_index/0", "norm/batch_state_index/1", "order",
    }  # fmt: skip
    leaves = trees.flat({"params": params, "state": state})
    read = load(save({path: np.asarray(leaf) for path, leaf in leaves.items()}))
    back = trees.unflat({"params": params, "state": state}, read)
    jax.tree.map(np.testing.assert_array_equal, back, {"params": params, "state": state})


def test_equinox_own_files_are_read_by_number(made, tmp_path):
    """The module as it is made, and the pair of it and its state; each value is another one."""
    backbone, (params, state), *_ = made
    like = Variables({"backbone": params}, {"backbone": state})
    module = Net(KEY)
    arrays, rest = eqx.partition(module, eqx.is_array)
    numbers = iter(range(1, 99))
    told = jax.tree.map(lambda leaf: jnp.full_like(leaf, next(numbers)), arrays)
    module = eqx.combine(told, rest)
    pair = eqx.nn.delete_init_state(module), eqx.nn.State(module)
    for name, tree in (("whole", module), ("pair", pair)):
        eqx.tree_serialise_leaves(tmp_path / f"{name}.eqx", tree)
        tensors = registry.build("weights", f"equinox:{tmp_path}/{name}.eqx").tensors()
        found, report = match(tensors, like, backbone.dialects)
        assert (report.dialect, report.initialised, report.skipped) == ("equinox", (), ())
        leaves = trees.flat(found)
        assert (leaves["params/backbone/convs/1/weight"] == module.convs[1].weight).all()
        assert (leaves["params/backbone/norm/bias"] == module.norm.bias).all()
        mean, var = module.norm.batch_state_index.init
        assert (leaves["state/backbone/norm/batch_state_index/0"] == mean).all()
        assert (leaves["state/backbone/norm/batch_state_index/1"] == var).all()
        assert (leaves["state/backbone/order"] == module.order).all()
    deeper = eqx.tree_at(lambda net: net.convs, module, [*module.convs, module.convs[0]])
    eqx.tree_serialise_leaves(tmp_path / "deeper.eqx", deeper)
    tensors = registry.build("weights", f"equinox:{tmp_path}/deeper.eqx").tensors()
    assert match(tensors, like, backbone.dialects)[1].initialised


def test_the_layer_tells_the_kind(made):
    backbone, *_ = made
    assert backbone.leaf("convs/1/weight")[:2] == ("all", "kernel")
    assert backbone.leaf("convs/1/bias")[:2] == ("all", "bias")
    assert backbone.leaf("norm/weight")[:2] == backbone.leaf("norm/bias")[:2] == ("all", "norm")
    assert staged().leaf("top/layers/1/weight")[:2] == ("top", "norm")
    assert patches().leaf("table/weight")[:2] == ("all", "embedding")
    assert patches().leaf("norm/weight").kind == "norm"
    with pytest.raises(ContractError, match="Did you mean 'norm/weight'"):
        backbone.leaf("norm/weigth")


def moved(module, state, batches, *, norm_inference):
    """Equinox's own passes over batches, in the mode that its flags say; no dropout."""
    module = eqx.tree_at(lambda m: m.norm.inference, module, norm_inference)
    own = jax.vmap(partial(module, key=KEY), (0, None), (0, None), axis_name="batch")
    run = quick_jit(own)
    for x in batches:
        features, state = run(x.transpose(0, 3, 1, 2), state)
    return features, state


@pytest.mark.parametrize("kind", ["batch", "ema"])
def test_all_modes_are_the_passes_of_equinox_itself(kind):
    backbone = net(dropout=0.0, mode=kind)
    module, own = eqx.nn.make_with_state(Net)(KEY, dropout=0.0, mode=kind)
    batches = [jax.random.normal(jax.random.key(n), (16, 8, 8, 3)) for n in range(3)]
    params, state = quick_jit(backbone.init)(KEY, batches[0])
    apply = quick_jit(backbone.apply, static_argnames="mode")
    for x in batches:
        features, state = apply(params, state, x, rng=KEY, mode="train")
    wanted, own = moved(module, own, batches, norm_inference=False)
    same = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(features["pooled"], wanted["pooled"], **same)
    np.testing.assert_allclose(features["shallow"].transpose(0, 3, 1, 2), wanted["shallow"], **same)
    index = module.norm.batch_state_index if kind == "batch" else module.norm.ema_state_index
    stats = state["norm"][f"{kind}_state_index"]
    for number, value in enumerate(own.get(index)):
        np.testing.assert_allclose(stats[str(number)], value, **same)
    if kind == "batch":
        assert state["norm"]["batch_counter"] == own.get(module.norm.batch_counter) == 3
    wanted, _ = moved(module, own, batches[:1], norm_inference=True)
    for mode in ("tune", "eval"):
        features, _ = apply(params, state, batches[0], rng=KEY, mode=mode)
        np.testing.assert_allclose(features["pooled"], wanted["pooled"], **same)


def test_dropout_and_batch_norm_go_by_mode_separately(made):
    _, variables, x, apply = made
    separates_modes(apply, variables, x, rate=0.25)


def test_stages_in_turn_are_apply_in_mode_train():
    x = jax.random.normal(KEY, (4, 8, 8, 3))
    backbone = staged()
    variables = quick_jit(backbone.init)(KEY, x)
    (_, top), after = same_in_turn(backbone, variables, x, rng=KEY, mode="train")
    assert top["top"].shape == (4, 4, 4, 5)
    assert after["top"]["layers"]["1"]["batch_counter"] == 1


def test_a_few_steps_of_training_descend(made):
    backbone, variables, x, _ = made
    descends(backbone, variables, x)


def test_modes_and_features_that_are_not_there_are_sentences(made):
    _, (params, state), x, _ = made
    names = ("shallow", "pooled")
    two = wrap_equinox(Net, names, INPUTS, modes=("train", "eval"))
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        two.apply(params, state, x, rng=KEY, mode="tune")
    with pytest.raises(ContractError, match="does not return the feature 'pool'"):
        wrap_equinox(Net, ("shallow", "pool"), INPUTS)
    with pytest.raises(ContractError, match=r"belongs to no stage.*one of bottom"):
        wrap_equinox(Staged, ("bottom",), INPUTS, stages=("bottom",)).leaf("top/layers/0/bias")


def test_the_network_of_the_readme(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    ((_, code), (_, table)) = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_equinox.py").write_text(code, encoding="utf-8")
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


class Block(eqx.Module):
    dense: eqx.nn.Linear

    def __init__(self, key):
        self.dense = eqx.nn.Linear(8, 8, key=key)

    def __call__(self, x):
        return x + jax.vmap(self.dense)(x)


class Stacked(eqx.Module):
    """A stack of three blocks below a scan."""

    stem: eqx.nn.Conv2d
    blocks: Block

    def __init__(self, key):
        self.stem = eqx.nn.Conv2d(3, 8, 4, stride=4, key=key)
        self.blocks = eqx.filter_vmap(Block)(jax.random.split(key, 3))

    def __call__(self, x, *, key):
        arrays, rest = eqx.partition(self.blocks, eqx.is_array)
        x = self.stem(x).reshape(8, -1).T
        return jax.lax.scan(lambda x, layer: (eqx.combine(layer, rest)(x), None), x, arrays)[0]


class Keyless(eqx.Module):
    conv: eqx.nn.Conv2d

    def __init__(self, key):
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=key)

    def __call__(self, x):
        return self.conv(x)


class Elsewhere(Keyless):
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        super().__init__(key)
        self.norm = eqx.nn.BatchNorm(4, "devices", mode="batch")

    def __call__(self, x, state, *, key=None):
        return self.norm(self.conv(x), state)


def test_a_stack_of_layers_has_its_axis():
    backbone = wrap_equinox(Stacked, ("tokens",), INPUTS)
    assert backbone.leaf("blocks/dense/weight")[1:] == ("kernel", 1, (0,))
    assert backbone.leaf("blocks/dense/bias")[1:] == ("bias", 0, (0,))
    assert backbone.leaf("stem/weight")[1:] == ("kernel", 0, ())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Keyless, r"Equinox module Keyless \(test_wrap_equinox.py, line \d+\).*`\*, key=None`"),
        (Elsewhere, r"in mode 'train'.*axis_name=\"devices\""),
        (lambda key: 3, r"test_wrap_equinox.py, line \d+\)"),
    ],
)
def test_what_does_not_run_is_told_when_it_is_wrapped(build, said):
    with pytest.raises(ContractError, match=said):
        wrap_equinox(build, ("pooled",), INPUTS)
