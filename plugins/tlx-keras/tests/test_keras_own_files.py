"""Files that Keras writes are loaded into the wrapped network name by name, and it then answers
as Keras does."""

import jax
import numpy as np
import pytest
from tlx_image import ImageInput
from tlx_keras.applications import application, network
from tlx_keras.keras_backbone import wrap_keras
from tlx_keras.on_jax import keras
from tlx_keras.structure import apart

from tlx import registry, trees
from tlx.testing.compiling import quick_jit
from tlx.types import Variables
from tlx.weights.matching import match

KEY = jax.random.key(0)
# Keras' variables do not know numpy 2's `copy` when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")


@pytest.fixture(scope="module")
def backbone():
    """The first layers of a MobileNet, depthwise convolutions and batch norms among them."""
    return application("MobileNet", 32, ("conv_pw_1_relu", "conv_pw_3_relu"), 3, {"alpha": 0.25})


@pytest.fixture(scope="module")
def original(backbone):
    """The same layers in Keras, with a classifier, and numbers that are no initial ones."""

    def made(_):
        whole = network(**dict(backbone.options))
        x = keras.layers.GlobalAveragePooling2D()(whole.get_layer("conv_pw_3_relu").output)
        return keras.Model(whole.input, keras.layers.Dense(10, name="predictions")(x))

    model = apart(made)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(-0.5, 1, variable.shape))
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return model


@pytest.mark.parametrize("file", ["mine.weights.h5", "mine.h5", "mine.keras"])
def test_a_file_of_keras_answers_as_keras_does(backbone, original, tmp_path, file):
    path = tmp_path / file
    original.save_weights(path) if ".weights." in file else original.save(path)
    source = registry.build("weights", f"keras:{path}")
    x = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    params, state = jax.eval_shape(backbone.init, KEY, x)
    kernel = jax.ShapeDtypeStruct((32, 10), np.float32)
    head = {"kernel": kernel, "bias": jax.ShapeDtypeStruct((10,), np.float32)}
    like = Variables({"backbone": params, "head": head}, {"backbone": state, "head": {}})
    found, report = match(source.tensors(), like, backbone.dialects)
    assert not report.initialised
    assert not report.skipped
    assert report.dialect.startswith("keras")
    assert {leaf.change for leaf in report.loaded} == {""}
    for variable in original.weights:
        if not variable.path.startswith("predictions"):
            leaf = {**trees.flat(found.params["backbone"]), **trees.flat(found.state["backbone"])}
            np.testing.assert_array_equal(leaf[variable.path], variable.value)
    features, _ = quick_jit(backbone.apply, static_argnames="mode")(
        found.params["backbone"], found.state["backbone"], x, rng=KEY, mode="eval"
    )
    top = found.params["head"]
    answers = features["conv_pw_3_relu"].mean((1, 2)) @ top["kernel"] + top["bias"]
    np.testing.assert_allclose(answers, original(x, training=False), rtol=1e-4, atol=1e-4)


def reduced(sequential):
    """Layers that leave variables out, or have names of their own for them."""
    layers = keras.layers
    every = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(scale=False, name="norm"),
        layers.PReLU(name="slope"),
        layers.SeparableConv2D(5, 3, name="separable"),
        layers.GroupNormalization(1, center=False, name="group"),
    ]
    return keras.Sequential(every) if sequential else functional(every)


def functional(every):
    image = x = every[0]
    for layer in every[1:]:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize("sequential", [True, False], ids=["sequential", "functional"])
@pytest.mark.parametrize("file", ["mine.weights.h5", "mine.h5", "mine.keras"])
def test_variables_without_names_go_by_their_number(tmp_path, sequential, file):
    model = apart(lambda _: reduced(sequential))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    path = tmp_path / file
    model.save_weights(path) if ".weights." in file else model.save(path)
    options = {"sequential": sequential}
    backbone = wrap_keras(reduced, ("group",), ImageInput(size=(8, 8)), options=options)
    params, state = jax.eval_shape(backbone.init, KEY, np.zeros((1, 8, 8, 3), np.float32))
    like = Variables({"backbone": params}, {"backbone": state})
    found, report = match(
        registry.build("weights", f"keras:{path}").tensors(), like, backbone.dialects
    )
    assert (report.initialised, report.skipped) == ((), ())
    leaves = trees.flat(found.params["backbone"]) | trees.flat(found.state["backbone"])
    for variable in model.weights:
        name = variable.path.removeprefix("sequential/")
        np.testing.assert_array_equal(leaves[name], variable.value)
