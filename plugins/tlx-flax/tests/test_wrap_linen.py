"""Any linen module as a Backbone: batch norm, dropout, modes by one or two arguments, stages."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from tlx_flax.linen_backbone import wrap_linen
from tlx_image import ImageInput

from tlx import trees
from tlx.errors import ContractError
from tlx.testing.claims import claim_same
from tlx.testing.compiling import quick_jit
from tlx.testing.descent import descends
from tlx.testing.stages import same_in_turn
from tlx.types import FeatureSpec

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))
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


class Scanned(nn.Module):
    """A stack of three blocks, attention, and embeddings that are no module."""

    axis: int = 0

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(8, (4, 4), strides=4)(x).reshape(len(x), -1, 8)
        x = x + self.param("where", nn.initializers.normal(0.02), (1, 4, 8))
        blocks = nn.scan(
            Block, variable_axes={"params": self.axis}, split_rngs={"params": True}, length=3
        )
        x, _ = blocks()(x, None)
        return nn.MultiHeadDotProductAttention(4)(x, x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(8)(nn.LayerNorm()(x)), None


@pytest.mark.parametrize("axis", [0, 1])
def test_stacked_and_many_headed_kernels_have_their_axes(axis):
    backbone = wrap_linen(Scanned(axis), ("tokens",), INPUTS)
    attention = "MultiHeadDotProductAttention_0"
    found = {
        path: backbone.leaf(path)[1:]
        for path in (
            "ScanBlock_0/Dense_0/kernel", "ScanBlock_0/LayerNorm_0/scale", "where",
            f"{attention}/query/kernel", f"{attention}/query/bias", f"{attention}/out/kernel",
            "Conv_0/kernel",
        )
    }  # fmt: skip
    assert [*found.values()] == [
        ("kernel", -1, (axis,)), ("norm", -1, (axis,)), ("embedding", -1, ()),
        ("kernel", (1, 2), ()), ("bias", -1, ()), ("kernel", -1, ()), ("kernel", -1, ()),
    ]  # fmt: skip
    x = jax.numpy.zeros((2, 8, 8, 3))
    variables = quick_jit(backbone.init)(KEY, x)
    outputs = backbone.trace(*variables, x)
    assert "ScanBlock_0/Dense_0" not in outputs  # which gives three answers
    assert all(np.isfinite(output).all() for output in outputs.values())


class Sowing(nn.Module):
    """Sows a loss, in each of flax's two ways, and remembers one number."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (3, 3), strides=2)(x)
        self.sow("losses", "each", (x**2).mean())
        self.sow("losses", "sum", (x**2).mean(), reduce_fn=jax.numpy.add, init_fn=lambda: 0.0)
        seen = self.variable("memory", "seen", jax.numpy.zeros, ())
        if train:
            seen.value = seen.value + 1
        return x.mean((1, 2)) + 0 * seen.value


def test_what_is_sown_is_no_state():
    backbone = wrap_linen(Sowing(), ("pooled",), INPUTS)
    x = jax.random.normal(KEY, (4, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)
    assert set(trees.flat(state)) == {"memory/seen"}
    for passes in (1, 2):
        _, state = backbone.apply(params, state, x, rng=KEY, mode="train")
        assert {path: float(leaf) for path, leaf in trees.flat(state).items()} == {
            "memory/seen": passes
        }


class Inner(nn.Module):
    returned: str = "array"

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (3, 3))(x)
        if self.returned == "noise" and train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        outputs = {
            "tuple": (x, x), "none": None, "flat": x.reshape(-1), "integer": x.astype(int),
            "nested": {"pooled": {"a": x}}, "all": x.mean(0),
        }  # fmt: skip
        return outputs.get(self.returned, x)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic: bool, use_running_average: bool = True):
        return nn.Dropout(0.5)(x, deterministic=deterministic)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3, 3))(x)


class Larger(nn.Module):
    """Computes on pictures of another size alone."""

    @nn.compact
    def __call__(self, x, train: bool):
        return x.reshape(len(x), 16, 16, 3)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Plain(), r"linen module Plain \(test_wrap_linen.py, line \d+\).*'train'.*besides the "
         r"picture it takes none.*modes=\{\"train\": \{\}, \"eval\": \{\}\}"),
        (Deterministic(), r"takes deterministic, use_running_average.*\"train\": "
         r"\{\"deterministic\": False, \"use_running_average\": False\}.*\"tune\": "),
        (Inner("noise"), r"in mode 'train'.*InvalidRng.*streams=\(\"dropout\", \"noise\"\)"),
        (Inner("tuple"), r"returns a tuple of 2 but has the features pooled"),
        (Inner("none"), r"returns nothing \(None\)"),
        (Inner("nested"), r"'pooled' is a dict\. A feature is an array"),
        (Inner("flat"), r"'pooled' has shape \(6144,\) for 24 examples"),
        (Inner("all"), r"'pooled' has shape \(8, 8, 4\) for 24 examples"),
        (Inner("integer"), r"'pooled' holds int32.*floating-point"),
        (Larger(), r"cannot be made on pictures \(24, 8, 8, 3\)"),
    ],
    ids=lambda each: "" if isinstance(each, str) else f"{type(each).__name__}",
)  # fmt: skip
def test_what_does_not_run_is_told_when_it_is_wrapped(module, said):
    with pytest.raises(ContractError, match=f"(?s){said}"):
        wrap_linen(module, ("pooled",), INPUTS)
