"""Any linen module as a Backbone: batch norm, dropout, modes by one or two arguments, stages."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from tlx_flax.linen_backbone import wrap_linen

from tlx import trees
from tlx.errors import ContractError
from tlx.testing.claims import claim_same
from tlx.testing.compiling import quick_jit
from tlx.testing.descent import descends
from tlx.testing.stages import same_in_turn
from tlx.types import FeatureSpec, InputSpec

KEY = jax.random.key(0)
INPUTS = InputSpec(size=(8, 8))
SEPARATE = {
    "train": {"deterministic": False, "use_running_average": False},
    "tune": {"deterministic": False, "use_running_average": True},
    "eval": {"deterministic": True, "use_running_average": True},
}


class Net(nn.Module):
    """The usual form: one argument `train`."""

    width: int = 6

    @nn.compact
    def __call__(self, x, train: bool):
        shallow = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        deep = nn.Conv(self.width, (3, 3), strides=2)(shallow)
        deep = nn.BatchNorm(use_running_average=not train)(deep)
        pooled = nn.Dropout(0.5, deterministic=not train)(deep.mean((1, 2)))
        return {"shallow": shallow, "pooled": pooled}


class Separate(nn.Module):
    """Two arguments, in two stages."""

    def setup(self):
        self.bottom = nn.Conv(4, (3, 3), strides=2)
        self.top = nn.BatchNorm()
        self.drop = nn.Dropout(0.5)

    def stage(self, name, x, deterministic: bool, use_running_average: bool):
        if name == "bottom":
            x = self.drop(self.bottom(x), deterministic=deterministic)
        else:
            x = self.top(x, use_running_average=use_running_average)
        return x, {name: x}

    def __call__(self, x, **modes):
        x, bottom = self.stage("bottom", x, **modes)
        return bottom | self.stage("top", x, **modes)[1]


@pytest.fixture(scope="module")
def made():
    backbone = wrap_linen(Net(), ("shallow", "pooled"), INPUTS)
    x = jax.random.normal(KEY, (16, 8, 8, 3))
    variables = quick_jit(backbone.init)(KEY, x)
    return backbone, variables, x, quick_jit(backbone.apply, static_argnames="mode")


def test_features_leaves_and_value(made):
    backbone, (params, state), *_ = made
    assert backbone.features == (
        FeatureSpec("shallow", "map", 4, 2),
        FeatureSpec("pooled", "vector", 6, None),
    )
    assert backbone == wrap_linen(Net(), ("shallow", "pooled"), INPUTS)
    assert hash(backbone) == hash(wrap_linen(Net(), ("shallow", "pooled"), INPUTS))
    assert backbone != wrap_linen(Net(7), ("shallow", "pooled"), INPUTS)
    assert set(trees.flat(state)) == {
        "batch_stats/BatchNorm_0/mean",
        "batch_stats/BatchNorm_0/var",
    }
    assert backbone.leaf("BatchNorm_0/bias")[:2] == ("all", "norm")
    assert {backbone.leaf(path).stage for path in trees.flat(params)} == {"all"}
    with pytest.raises(ContractError, match="Did you mean 'Conv_0/bias'"):
        backbone.leaf("Conv_0/bia")


def test_one_argument_cannot_say_tune(made):
    backbone, (params, state), x, apply = made
    assert backbone.modes == {"train", "eval"}
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        apply(params, state, x, rng=KEY, mode="tune")
    train, moved = apply(params, state, x, rng=KEY, mode="train")
    still, kept = apply(params, state, x, rng=KEY, mode="eval")
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    stats = moved["batch_stats"]["BatchNorm_0"]
    assert not np.array_equal(stats["mean"], state["batch_stats"]["BatchNorm_0"]["mean"])
    assert 0.25 < (train["pooled"] == 0).mean() < 0.75
    assert not (still["pooled"] == 0).any()


def test_two_arguments_separate_all_modes_and_stages():
    backbone = wrap_linen(
        Separate(), ("bottom", "top"), INPUTS, stages=("bottom", "top"), modes=SEPARATE
    )
    assert backbone.modes == {"train", "tune", "eval"}
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    variables = quick_jit(backbone.init)(KEY, x)
    assert backbone.leaf("top/scale")[:2] == ("top", "norm")
    found, after = {}, {}
    for mode in sorted(backbone.modes):
        found[mode], after[mode] = same_in_turn(backbone, variables, x, rng=KEY, mode=mode)
    dropped = {mode: np.asarray(bottom["bottom"] == 0) for mode, (bottom, _) in found.items()}
    np.testing.assert_array_equal(dropped["train"], dropped["tune"])
    assert dropped["tune"].mean() > 0.25 > dropped["eval"].mean()
    claim_same(after["tune"], variables.state, "The state after mode 'tune'")
    assert not np.allclose(found["train"][1]["top"], found["tune"][1]["top"])


def test_a_few_steps_of_training_descend(made):
    backbone, variables, x, _ = made
    descends(backbone, variables, x)


def test_wrong_features_are_a_sentence():
    with pytest.raises(ContractError, match="does not return the feature 'deep'"):
        wrap_linen(Net(), ("shallow", "pooled", "deep"), INPUTS)
