"""ResNet-8 for 32 x 32 pictures as MLPerf Tiny has it, in the conventions of Keras.

Banbury et al. 2021, 'MLPerf Tiny Benchmark' (arXiv:2106.07597), section 4.1: three residual
blocks of 16, 32 and 64 channels. Convolutions have biases and pad rather after than before,
batch norm adds 1e-3 to the variance, a projection has no norm, and pictures are raw 0..255.
"""

from __future__ import annotations

from flax import nnx
from jax import Array
from tlx_image import ImageInput

from tlx.contracts.dialect import Conventions, Dialect, Row
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.nnx_backbone import NnxBackbone

INPUTS = ImageInput(size=(32, 32), scale=255.0)
"""Red, green and blue from 0 to 255."""
STAGES = ("stem", "stage1", "stage2", "stage3")
FEATURES = (
    FeatureSpec("stem", "map", 16, 1),
    FeatureSpec("stage1", "map", 16, 1),
    FeatureSpec("stage2", "map", 32, 2),
    FeatureSpec("stage3", "map", 64, 4),
    FeatureSpec("pooled", "vector", 64),
)
KERAS = Conventions("HWIO", "after", norm_eps=1e-3, norm_momentum=0.99)

_CONVS = {
    "conv2d": "stem/conv1",
    "conv2d_1": "stage1/conv1",
    "conv2d_2": "stage1/conv2",
    "conv2d_3": "stage2/conv1",
    "conv2d_4": "stage2/conv2",
    "conv2d_5": "stage2/shortcut",
    "conv2d_6": "stage3/conv1",
    "conv2d_7": "stage3/conv2",
    "conv2d_8": "stage3/shortcut",
}
_NORMS = {
    "batch_normalization": "stem/bn1",
    "batch_normalization_1": "stage1/bn1",
    "batch_normalization_2": "stage1/bn2",
    "batch_normalization_3": "stage2/bn1",
    "batch_normalization_4": "stage2/bn2",
    "batch_normalization_5": "stage3/bn1",
    "batch_normalization_6": "stage3/bn2",
}
_NORM = {
    "gamma": "params/backbone/{}/scale",
    "beta": "params/backbone/{}/bias",
    "moving_mean": "state/backbone/{}/mean",
    "moving_variance": "state/backbone/{}/var",
}


def _keras(between: str) -> tuple[Row, ...]:
    """Rows with a layer and its weights separated by `between`."""
    layers = {**{theirs: f"backbone/{ours}" for theirs, ours in _CONVS.items()}, "dense": "head"}
    kernel, bias = f"{between}kernel", f"{between}bias"
    rows = []
    for theirs, ours in layers.items():
        layout = "stem" if theirs == "conv2d" else "kernel"
        rows += [Row(theirs + kernel, f"params/{ours}/kernel", layout)]
        rows += [Row(theirs + bias, f"params/{ours}/bias")]
    for theirs, ours in _NORMS.items():
        for weight, form in _NORM.items():
            layout = "variance" if weight == "moving_variance" else "same"
            rows += [Row(f"{theirs}{between}{weight}", form.format(ours), layout)]
    return tuple(rows)


KERAS_NAMES = Dialect("keras", (*_keras("."), *_keras("/")), KERAS, KERAS)
"""The names that Keras gives to layers in the order of their making; the first row is written."""


def _conv(cin: int, cout: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    # Flax's SAME is Keras': where the stride leaves an odd pixel, it is padded behind.
    he_normal = nnx.initializers.he_normal()
    window = (size, size)
    return nnx.Conv(cin, cout, window, strides=stride, kernel_init=he_normal, rngs=rngs)


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    eps, momentum = KERAS.norm_eps, KERAS.norm_momentum
    return nnx.BatchNorm(channels, epsilon=eps, momentum=momentum, rngs=rngs)


class Stem(nnx.Module):
    """The first convolution."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = _conv(3, 16, 3, 1, rngs)
        self.bn1 = _norm(16, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,3) to (B,H,W,16)."""
        return nnx.relu(self.bn1(self.conv1(x)))


class Block(nnx.Module):
    """Two 3x3 convolutions and a shortcut, a bare 1x1 convolution where the width changes."""

    def __init__(self, cin: int, width: int, rngs: nnx.Rngs):
        stride = 1 if cin == width else 2
        self.conv1 = _conv(cin, width, 3, stride, rngs)
        self.bn1 = _norm(width, rngs)
        self.conv2 = _conv(width, width, 3, 1, rngs)
        self.bn2 = _norm(width, rngs)
        self.shortcut = None if cin == width else _conv(cin, width, 1, stride, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/2,W/2,width), or the same size where the width stays."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = Stem(rngs)
        self.stage1 = Block(16, 16, rngs)
        self.stage2 = Block(16, 32, rngs)
        self.stage3 = Block(32, 64, rngs)

    def stage(self, name: str, x: Array) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise."""
        x = getattr(self, name)(x)
        features = {name: x}
        if name == STAGES[-1]:
            features["pooled"] = x.mean((1, 2))
        return x, features


def resnet8() -> Backbone:
    """8 layers with the classifier, 77,536 parameters without it."""
    return NnxBackbone(ResNet8, FEATURES, INPUTS, (), STAGES, dialects=(KERAS_NAMES,))
