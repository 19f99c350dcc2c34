"""Any nnx module as a Backbone: batch norm, dropout, modes, stages, lists of layers."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tlx_flax.nnx_backbone import wrap_nnx
from tlx_image import ImageInput

from tlx import trees
from tlx.errors import ContractError
from tlx.testing.compiling import quick_jit
from tlx.testing.descent import descends
from tlx.testing.dropping import separates_modes
from tlx.testing.stages import same_in_turn
from tlx.types import FeatureSpec

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))


class Net(nnx.Module):
    """Batch norm, dropout and a list of layers; two features."""

    def __init__(self, rngs):
        self.convs = nnx.List(
            [
                nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs),
                nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs),
            ]
        )
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        shallow = nnx.relu(self.convs[0](x))
        deep = self.norm(self.convs[1](shallow))
        return {"shallow": shallow, "pooled": self.drop(deep.mean((1, 2)))}


class Staged(nnx.Module):
    """Runs in two pieces, each with dropout."""

    def __init__(self, rngs):
        self.bottom = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
        self.top = nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))

    def stage(self, name, x):
        x = getattr(self, name)(x)
        return x, {name: x}


def tokens(rngs):
    """A module whose output is a bare array."""
    return nnx.Sequential(
        nnx.Conv(3, 4, (4, 4), strides=4, rngs=rngs), lambda x: x.reshape(x.shape[0], -1, 4)
    )


@pytest.fixture(scope="module")
def made():
    backbone = wrap_nnx(Net, ("shallow", "pooled"), INPUTS)
    x = jax.random.normal(KEY, (16, 8, 8, 3))
    return (
        backbone,
        quick_jit(backbone.init)(KEY, x),
        x,
        quick_jit(backbone.apply, static_argnames="mode"),
    )


def test_features_are_measured(made):
    backbone, *_ = made
    assert backbone.features == (
        FeatureSpec("shallow", "map", 4, 2),
        FeatureSpec("pooled", "vector", 6, None),
    )
    assert wrap_nnx(tokens, ("patches",), INPUTS).features == (FeatureSpec("patches", "tokens", 4),)
    assert backbone == wrap_nnx(Net, ("shallow", "pooled"), INPUTS)
    assert hash(backbone) == hash(wrap_nnx(Net, ("shallow", "pooled"), INPUTS))


def test_variables_hold_no_random_streams(made):
    backbone, (params, state), *_ = made
    assert set(trees.flat(state)) == {"norm/mean", "norm/var"}
    assert set(trees.flat(params)) == {
        "convs/0/kernel",
        "convs/0/bias",
        "convs/1/kernel",
        "convs/1/bias",
        "norm/scale",
        "norm/bias",
    }
    assert backbone.leaf("convs/0/bias")[:2] == ("all", "bias")
    assert backbone.leaf("norm/bias")[:2] == ("all", "norm")


def test_dropout_and_batch_norm_go_by_mode_separately(made):
    _, variables, x, apply = made
    separates_modes(apply, variables, x, rate=0.5)


def test_a_few_steps_of_training_descend(made):
    backbone, variables, x, _ = made
    descends(backbone, variables, x)


def test_stages_in_turn_drop_the_same_units_as_apply():
    backbone = wrap_nnx(Staged, ("bottom", "top"), INPUTS, stages=("bottom", "top"))
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    assert backbone.leaf("top/layers/0/kernel")[:2] == ("top", "kernel")
    same_in_turn(backbone, quick_jit(backbone.init)(KEY, x), x, rng=KEY, mode="train")


def test_a_mode_that_is_left_out_is_refused():
    modes = {"train": {"deterministic": False}, "eval": {"deterministic": True}}
    backbone = wrap_nnx(tokens, ("patches",), INPUTS, modes=modes)
    assert backbone.modes == {"train", "eval"}
    x = jnp.zeros((1, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        backbone.apply(params, state, x, rng=KEY, mode="tune")


@pytest.mark.parametrize(
    ("build", "names", "sentence"),
    [
        (Net, ("shallow", "pool"), "does not return the feature 'pool'.*Did you mean 'pooled'"),
        (Net, ("pooled",), "returns 'shallow', which is not one of its features pooled"),
        (tokens, ("a", "b"), "has the features a, b. Let it return a mapping"),
    ],
)
def test_wrong_features_are_a_sentence(build, names, sentence):
    with pytest.raises(ContractError, match=sentence):
        wrap_nnx(build, names, INPUTS)


def test_a_parameter_outside_of_all_stages_is_a_sentence():
    backbone = wrap_nnx(Staged, ("bottom",), INPUTS, stages=("bottom",))
    with pytest.raises(ContractError, match=r"belongs to no stage.*one of bottom"):
        backbone.leaf("bottom/layers/0/kernel")


class Block(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(8, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(self.dense(x))


@nnx.split_rngs(splits=3)
@nnx.vmap(axis_size=3)
def stacked(rngs):
    return Block(rngs)


class Scanned(nnx.Module):
    """A stack of three blocks, each with its dropout, and attention."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.blocks = stacked(rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.where = nnx.Param(jnp.zeros((1, 4, 8)))

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def through(block, x):
            return block(x)

        x = self.stem(x).reshape(len(x), 4, 8) + self.where[...]
        return self.attention(through(self.blocks, x))


def test_stacked_and_many_headed_kernels_have_their_axes():
    backbone = wrap_nnx(Scanned, ("tokens",), INPUTS)
    paths = "blocks/dense/kernel", "attention/query/kernel", "stem/kernel", "where"
    assert [backbone.leaf(path)[1:] for path in paths] == [
        ("kernel", -1, (0,)),
        ("kernel", (1, 2), ()),
        ("kernel", -1, ()),
        ("embedding", -1, ()),
    ]
    x = jnp.ones((2, 8, 8, 3))
    outputs = backbone.trace(*quick_jit(backbone.init)(KEY, x), x)
    assert {"stem", "attention"} <= set(outputs)
    assert all(jnp.isfinite(output).all() for output in outputs.values())


class Asking(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x, train):
        return self.dense(x)


class Keyed(nnx.Module):
    def __init__(self, key):
        pass


class Averaged(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, axis_name="devices", rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Asking, r"nnx module Asking \(test_wrap_nnx.py, line \d+\).*with the picture alone"),
        (Keyed, r"cannot be made.*build\(\*\*options, rngs=rngs\)"),
        (Averaged, r"in mode 'train'.*axis 'devices'.*leave the axis name out"),
        (lambda rngs: 3, r"test_wrap_nnx.py, line \d+\) cannot be made"),
        (lambda rngs: 1 / 0, r"ZeroDivisionError: division by zero\."),
    ],
)
def test_what_does_not_run_is_told_when_it_is_wrapped(build, said):
    with pytest.raises(ContractError, match=said):
        wrap_nnx(build, ("pooled",), INPUTS)
