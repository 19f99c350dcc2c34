"""Any Keras model as a Backbone: against Keras itself, in both of its modes and the third."""

import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import ImageInput
from tlx_keras import on_jax
from tlx_keras.keras_backbone import wrap_keras
from tlx_keras.on_jax import keras
from tlx_keras.structure import apart

from tlx import trees
from tlx.errors import ContractError, PluginError
from tlx.protocols import Backbone, ForeignNames, Staged
from tlx.testing.cases import failures
from tlx.testing.compiling import quick_jit
from tlx.testing.descent import descends
from tlx.testing.dropping import separates_modes
from tlx.testing.stages import same_in_turn
from tlx.types import FeatureSpec

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))
FEATURES = ("low", "norm", "high", "pooled")
layers = keras.layers


def functional(width=6):
    """Branches, batch norm, dropout; half of its layers have names that Keras counts."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(x)
    x = low = layers.ReLU(name="low")(x)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(low)
    y = layers.Conv2D(width, 1)(y)
    x = layers.Add(name="high")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5, name="pooled")(x)
    return keras.Model(image, layers.Dense(10)(x))


class Subclass(keras.Model):
    """Layers made in `__init__`, called in `call`, a mapping returned."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.conv = layers.Conv2D(4, 3, strides=2, padding="same")
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(rate)

    def call(self, x):
        x = self.norm(self.conv(x))
        return {"map": x, "pooled": self.drop(keras.ops.mean(x, (1, 2)))}


def tokens():
    """A lone output, and a norm without batch statistics."""
    return keras.Sequential(
        [
            layers.Conv2D(4, 4, strides=4),
            layers.Reshape((-1, 4)),
            layers.LayerNormalization(name="patches"),
        ]
    )


def dense():
    """With an answer of its own behind the features."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=2),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(name="pooled"),
            layers.Dense(2),
        ]
    )


def subclassed():
    return wrap_keras(Subclass, ("map", "pooled"), INPUTS)


def staged():
    return wrap_keras(functional, FEATURES, INPUTS, stages=("low", "high"))


@pytest.fixture(scope="module")
def made():
    backbone = wrap_keras(functional, FEATURES, INPUTS)
    x = jax.random.normal(KEY, (16, 8, 8, 3))
    variables = quick_jit(backbone.init)(KEY, x)
    return backbone, variables, x, quick_jit(backbone.apply, static_argnames="mode")


@pytest.fixture(scope="module")
def original(made):
    """The same model in Keras' own hands, with the numbers of `made`, returning every feature."""
    _, (params, state), *_ = made
    whole = apart(lambda _: functional())
    model = keras.Model(whole.input, {name: whole.get_layer(name).output for name in FEATURES})
    values = trees.flat(params) | trees.flat(state)
    assert {v.path for v in model.weights} == set(values)
    for variable in model.weights:
        variable.assign(values[variable.path])
    return model


def called(model, x, training):
    """What a Keras model returns, and its variables that are not trained afterwards."""
    trained = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    call = quick_jit(model.stateless_call, static_argnames="training")
    return call(trained, others, x, training=training)


def test_what_it_is(made):
    backbone, (params, state), *_ = made
    assert isinstance(backbone, Backbone)
    assert isinstance(backbone, Staged)
    assert isinstance(backbone, ForeignNames)
    assert backbone.features == (
        FeatureSpec("low", "map", 4, 2),
        FeatureSpec("norm", "map", 6, 2),
        FeatureSpec("high", "map", 6, 2),
        FeatureSpec("pooled", "vector", 6),
    )
    assert backbone == wrap_keras(functional, FEATURES, INPUTS)
    assert hash(backbone) == hash(wrap_keras(functional, FEATURES, INPUTS))
    assert backbone != wrap_keras(functional, FEATURES, INPUTS, options={"width": 7})
    # The last Dense is behind all features. Random streams are no state.
    assert set(trees.flat(params)) == {
        "conv/kernel",
        "conv/bias",
        "conv2d/kernel",
        "norm/gamma",
        "norm/beta",
        "depthwise_conv2d/kernel",
        "depthwise_conv2d/bias",
        "conv2d_1/kernel",
        "conv2d_1/bias",
    }
    assert set(trees.flat(state)) == {"norm/moving_mean", "norm/moving_variance"}
    assert backbone.leaf("norm/beta")[:2] == ("all", "norm")
    assert backbone.leaf("conv/bias")[:2] == ("all", "bias")
    assert wrap_keras(tokens, ("patches",), INPUTS).features == (
        FeatureSpec("patches", "tokens", 4),
    )
    with pytest.raises(ContractError, match="Did you mean 'conv/bias'"):
        backbone.leaf("conv/bia")


def test_eval_is_what_keras_computes(made, original):
    _, (params, state), x, apply = made
    features, after = apply(params, state, x, rng=KEY, mode="eval")
    wanted, _ = called(original, x, training=False)
    assert set(features) == set(FEATURES)
    for name in FEATURES:
        np.testing.assert_allclose(features[name], wanted[name], rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_train_is_what_keras_computes_with_its_statistics(made, original):
    _, (params, state), x, apply = made
    features, after = apply(params, state, x, rng=KEY, mode="train")
    wanted, moved = called(original, x, training=True)
    for name in FEATURES[:-1]:
        np.testing.assert_allclose(features[name], wanted[name], rtol=1e-4, atol=1e-5)
    now = {v.path: value for v, value in zip(original.non_trainable_variables, moved, strict=True)}
    for path, value in trees.flat(after).items():
        np.testing.assert_allclose(value, now[path], rtol=1e-5, atol=1e-6)
        assert not np.array_equal(value, trees.flat(state)[path])
    # Dropout draws from the run's key: what is left is the mean of the last map, doubled.
    left = np.asarray(features["pooled"])
    mean = np.asarray(features["high"].mean((1, 2)))
    np.testing.assert_allclose(left[left != 0], 2 * mean[left != 0], rtol=1e-5)
    assert 0.25 < (left == 0).mean() < 0.75


def test_dropout_and_batch_norm_go_by_mode_separately(made):
    backbone, variables, x, apply = made
    assert backbone.modes == {"train", "tune", "eval"}
    separates_modes(apply, variables, x, rate=0.5)


def test_gradient_is_that_of_keras(made, original):
    backbone, (params, state), x, _ = made
    others = [v.value for v in original.non_trainable_variables]

    def ours(params):
        features, _ = backbone.apply(params, state, x, rng=KEY, mode="train")
        return (features["high"] ** 2).sum()

    def theirs(trained):
        features, _ = original.stateless_call(trained, others, x, training=True)
        return (features["high"] ** 2).sum()

    found = trees.flat(quick_jit(jax.grad(ours))(params))
    variables = original.trainable_variables
    wanted = quick_jit(jax.grad(theirs))([v.value for v in variables])
    for variable, slope in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(found[variable.path], slope, rtol=1e-3, atol=1e-3)


def test_a_few_steps_of_training_descend(made):
    backbone, variables, x, _ = made
    descends(backbone, variables, x)


def test_initial_values_follow_the_key_and_keras_initializers(made):
    backbone, (params, state), x, _ = made
    init = quick_jit(backbone.init)
    jax.tree.map(np.testing.assert_array_equal, tuple(init(KEY, x)), (params, state))
    other, _ = init(jax.random.key(1), x)
    assert not np.array_equal(other["conv"]["kernel"], params["conv"]["kernel"])
    assert not np.array_equal(
        params["conv2d"]["kernel"].ravel()[:24], params["conv2d_1"]["kernel"].ravel()[:24]
    )
    # Glorot and Bengio 2010, eq. 16: uniform within sqrt(6 / (fan in + fan out)).
    bound = (6 / (9 * 3 + 9 * 4)) ** 0.5
    kernel = np.abs(params["conv"]["kernel"])
    assert 0.9 * bound < kernel.max() <= bound
    assert not np.any(params["conv"]["bias"])
    np.testing.assert_array_equal(state["norm"]["moving_variance"], 1)


def test_names_do_not_depend_on_the_session_nor_touch_it():
    keras.utils.clear_session()
    assert layers.Conv2D(1, 1).name == "conv2d"
    backbone = wrap_keras(functional, FEATURES, INPUTS)
    assert backbone.leaf("conv2d/kernel").kind == "kernel"
    assert layers.Conv2D(1, 1).name == "conv2d_1"


def test_stages_in_turn_equal_apply(made):
    _, variables, x, _ = made
    backbone = staged()
    assert backbone.stages == ("low", "high")
    assert backbone.leaf("conv/kernel").stage == "low"
    above = {path for path in trees.flat(variables.params) if not path.startswith("conv/")}
    assert {backbone.leaf(path).stage for path in above} == {"high"}
    for mode in sorted(backbone.modes):
        (low, _), _ = same_in_turn(backbone, variables, x, rng=KEY, mode=mode)
        assert set(low) == {"low"}


@pytest.mark.parametrize("make", [subclassed, staged])
def test_the_kit_finds_nothing(make):
    assert failures("backbones", make) == {}


# Keras' variables do not know numpy 2's `copy` when it saves them.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
def test_a_trained_model_starts_from_its_own_numbers(tmp_path):
    model = apart(lambda _: dense())
    for variable in model.weights:
        variable.assign(np.random.default_rng(0).uniform(0.5, 1, variable.shape))
    path = str(tmp_path / "mine.keras")
    model.save(path)
    options = {"filepath": path, "compile": False}
    backbone = wrap_keras(keras.models.load_model, ("norm", "pooled"), INPUTS, options=options)
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)
    features, _ = quick_jit(backbone.apply, static_argnames="mode")(
        params, state, x, rng=KEY, mode="eval"
    )
    top = model.layers[-1]
    answers = features["pooled"] @ top.kernel.value + top.bias.value
    np.testing.assert_allclose(answers, called(model, x, False)[0], rtol=1e-5, atol=1e-5)


class Running(layers.Layer):
    """Statistics that Keras cannot hold still while training."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[-1:], trainable=False, name="mean")

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, (0, 1, 2)))
        return x - self.mean


def counting():
    return keras.Sequential([layers.Conv2D(3, 1), Running(name="map")])


def test_a_mode_that_keras_cannot_tell_apart_is_refused():
    backbone = wrap_keras(counting, ("map",), INPUTS)
    assert backbone.modes == {"train", "eval"}
    x = jnp.ones((1, 8, 8, 3))
    params, state = backbone.init(KEY, x)
    assert not np.array_equal(
        *(backbone.apply(params, state, x, rng=KEY, mode=m)[1]["map"]["mean"]
          for m in ("train", "eval"))
    )  # fmt: skip
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        backbone.apply(params, state, x, rng=KEY, mode="tune")


class FromNumbers(layers.Layer):
    def __init__(self):
        super().__init__()
        self.factor = keras.Variable(np.ones(3), name="factor")

    def call(self, x):
        return x * self.factor


def from_numbers():
    return keras.Sequential([layers.Conv2D(3, 1), FromNumbers()])


def alike():
    one, other = (
        keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1, name="conv")], name="same")
        for _ in range(2)
    )
    other.name = "other"
    image = keras.Input((8, 8, 3))
    return keras.Model(image, other(one(image)))


def no_model():
    return lambda x: x


@pytest.mark.parametrize(
    ("build", "names", "stages", "sentence"),
    [
        (functional, ("low", "pool"), (), "no output and no layer 'pool'.*Did you mean 'pooled'"),
        (functional, FEATURES, ("low", "norm", "high"), "needs more than the feature where"),
        (functional, FEATURES, ("lo", "high"), "stage 'lo' is none.*Did you mean 'low'"),
        (functional, FEATURES, ("norm", "low", "high"), "not in the order of the features"),
        (Subclass, ("map",), (), "returns 'pooled', which is not one of its features map"),
        (Subclass, ("map", "pool"), (), "does not return the feature 'pool'"),
        (Subclass, ("map", "pooled"), ("map", "pooled"), "no Functional or Sequential model"),
        (from_numbers, ("map",), (), "from numbers instead of an initializer"),
        (alike, ("other",), (), "names that two variables share, such as 'same/conv/"),
        (no_model, ("map",), (), "must return a keras.Model"),
    ],
)
def test_what_cannot_work_is_a_sentence(build, names, stages, sentence):
    with pytest.raises(ContractError, match=sentence):
        wrap_keras(build, names, INPUTS, stages=stages)


def test_another_backend_is_refused(monkeypatch):
    with monkeypatch.context() as early:
        early.delitem(sys.modules, "keras")
        early.setenv("KERAS_BACKEND", "torch")
        with pytest.raises(PluginError, match=r"KERAS_BACKEND is 'torch'.*Set it to 'jax'"):
            runpy.run_path(on_jax.__file__)
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(PluginError, match="imported with the backend 'torch' before"):
        runpy.run_path(on_jax.__file__)
