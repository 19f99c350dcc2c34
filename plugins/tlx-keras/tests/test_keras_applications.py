"""`keras:NAME`: networks of keras.applications against what Keras itself computes."""

import jax
import numpy as np
import pytest
from tlx_image.pixels import normalize
from tlx_keras.applications import application, network
from tlx_keras.on_jax import keras
from tlx_keras.preprocessing import input_spec
from tlx_keras.structure import apart

from tlx import registry, trees
from tlx.errors import ConfigError, TlxError
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)
SMALL = {"size": 96, "arguments": {"alpha": 0.35}}
FAMILIES = [name for name in dir(keras.applications) if name[0].islower()]
FAMILIES = [name for name in FAMILIES if name != "imagenet_utils"]


def drawn(like, rng):
    """Numbers for every leaf, such that no activation dies or explodes: kernels of variance
    2 / fan in, everything else near one."""

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1])
        if len(leaf.shape) > 1:
            return rng.normal(0, (2 / fan_in) ** 0.5, leaf.shape).astype(leaf.dtype)
        return rng.uniform(0.8, 1.2, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(draw, like)


def compared(backbone, mode):
    """(ours, Keras') for every feature and every running statistic, from the same numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *backbone.inputs.size, backbone.inputs.channels)).astype(np.float32)
    params, state = drawn(jax.eval_shape(backbone.init, KEY, x), rng)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    features, after = apply(params, state, x, rng=KEY, mode=mode)

    def original(_):
        whole = network(**dict(backbone.options))
        names = {operation.name: operation.output for operation in whole.operations}
        return keras.Model(whole.input, {spec.name: names[spec.name] for spec in backbone.features})

    model = apart(original)
    values = trees.flat(params) | trees.flat(state)
    trained = [values[v.path] for v in model.trainable_variables]
    others = [
        values.get(v.path, np.array([1, 2], np.uint32)) for v in model.non_trainable_variables
    ]
    call = quick_jit(model.stateless_call, static_argnames="training")
    wanted, moved = call(trained, others, x, training=mode == "train")
    pairs = {name: (features[name], wanted[name]) for name in wanted}
    for variable, value in zip(model.non_trainable_variables, moved, strict=True):
        if variable.path in values:
            pairs[variable.path] = trees.flat(after)[variable.path], value
    assert len(pairs) == len(backbone.features) + len(trees.flat(state))
    return pairs


def claim_equal(pairs):
    for name, (ours, theirs) in pairs.items():
        scale = np.abs(theirs).max()
        assert scale > 0 or not theirs.ndim, name
        assert np.abs(ours - theirs).max() <= 1e-4 * scale, name


@pytest.mark.parametrize("mode", ["eval", pytest.param("train", marks=pytest.mark.slow)])
def test_mobilenet_v2_is_what_keras_computes(mode):
    backbone = registry.build("backbones", "keras:MobileNetV2", SMALL)
    assert [(spec.name, spec.channels, spec.stride) for spec in backbone.features] == [
        ("block_1_expand_relu", 48, 2),
        ("block_3_expand_relu", 48, 4),
        ("block_6_expand_relu", 96, 8),
        ("block_13_expand_relu", 192, 16),
        ("out_relu", 1280, 32),
        ("pooled", 1280, None),
    ]
    assert backbone.stages == tuple(spec.name for spec in backbone.features[:-1])
    assert backbone.modes == {"train", "tune", "eval"}
    assert backbone.leaf("Conv1/kernel")[:2] == ("block_1_expand_relu", "kernel")
    assert backbone.leaf("Conv_1_bn/gamma")[:2] == ("out_relu", "norm")
    claim_equal(compared(backbone, mode))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ResNet50", "ResNet50V2", "VGG16", "DenseNet121", "InceptionV3", "Xception", "MobileNet",
     "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "NASNetMobile"],
)  # fmt: skip
def test_other_networks_are_what_keras_computes(name):
    backbone = application(name, size=96)
    assert backbone.features[-1].name == "pooled"
    assert len(backbone.stages) >= 2
    claim_equal(compared(backbone, "eval"))


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_arrive_as_preprocess_input_makes_them(family):
    preprocess = getattr(keras.applications, family).preprocess_input
    # Soft colours with noise: every channel another range, and all of 0 to 255.
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 24)[:, None, None] * [1.0, 0.6, 0.3]
    image = (ramp + rng.normal(0, 30, (2, 24, 24, 3))).clip(0, 255).round().astype(np.uint8)
    spec = input_spec(preprocess, (24, 24))
    found = np.asarray(normalize(spec, jax.numpy.asarray(image)))
    np.testing.assert_allclose(found, preprocess(image.astype(np.float32)), rtol=1e-5, atol=1e-4)


def test_the_three_ways_of_keras_and_none():
    def spec(family):
        return input_spec(getattr(keras.applications, family).preprocess_input, (8, 8))

    tf, torch, caffe, none = map(spec, ("mobilenet_v2", "densenet", "resnet", "efficientnet_v2"))
    half = (0.5, 0.5, 0.5)
    assert (tf.mean, tf.std, tf.scale, tf.order) == (half, half, 1.0, "rgb")
    assert (torch.mean, torch.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (caffe.mean, caffe.scale, caffe.order) == ((103.939, 116.779, 123.68), 255.0, "bgr")
    assert (none.mean, none.std, none.scale) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 255.0)
    grey = input_spec(keras.applications.resnet.preprocess_input, (8, 8), channels=1)
    assert (grey.channels, grey.mean, grey.order) == (1, (114.799333,), "rgb")


def test_features_of_ones_own_choice_cut_the_network_there():
    names = ("conv_pw_2_relu", "conv_dw_3", "pooled")
    backbone = application("MobileNet", 32, names, 1, {"alpha": 0.25})
    assert [spec.name for spec in backbone.features] == list(names)
    assert backbone.stages == ("conv_pw_2_relu", "conv_dw_3", "pooled")
    assert backbone.inputs.channels == 1
    assert backbone.leaf("conv_pw_13/kernel").stage == "pooled"
    first = application("MobileNet", 32, names[:1])
    shapes = jax.eval_shape(first.init, KEY, np.zeros((1, 32, 32, 3), np.float32))
    # What lies behind the last feature is not there.
    assert "conv_pw_2" in shapes.params
    assert "conv_dw_3" not in shapes.params


def test_the_published_size_is_the_default():
    assert application("Xception", features=("block1_conv1_act",)).inputs.size == (299, 299)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "MobileNetV5"}, "has no 'MobileNetV5'.*Did you mean 'MobileNetV"),
        ({"name": "MobileNet", "channels": 4}, "`channels` is 4"),
        ({"name": "MobileNet", "arguments": {"alfa": 1.0}}, "'alfa'.*Did you mean 'alpha'"),
        ({"name": "MobileNet", "arguments": {"weights": "imagenet"}}, "no argument 'weights'"),
        ({"name": "MobileNet", "size": 16}, "refused its options.*at least 32"),
        ({"name": "MobileNet", "size": 32, "features": ("conv_pw_99",)}, "no layer 'conv_pw_99'"),
    ],
)
def test_what_keras_does_not_have_is_a_sentence(options, sentence):
    with pytest.raises(TlxError, match=sentence):
        application(**options)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ConfigError, match="image_data_format to 'channels_last'"):
            application("MobileNet")
    finally:
        keras.config.set_image_data_format("channels_last")
