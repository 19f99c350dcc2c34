"""SqueezeNet v1.0 in Caffe's conventions: eight fire modules behind a 7x7 convolution.

Iandola et al. 2016, 'SqueezeNet: AlexNet-level accuracy with 50x fewer parameters'
(arXiv:1602.07360), table 1. A fire module squeezes its channels with 1x1 convolutions and expands
them with 1x1 and 3x3 ones side by side. The network's own classifier is the head `squeezenet`.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array
from tlx_image import ImageInput

from tlx.contracts.dialect import Dialect
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.max_pool import max_pool
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.rows import conv

INPUTS = ImageInput(
    size=(227, 227), scale=255.0, order="bgr", mean=(104.0, 117.0, 123.0), crop=227 / 256
)
"""Blue, green and red from 0 to 255 less their means; resized to 256, the middle 227 kept."""
FIRES = (
    # name, squeezed channels, expanded channels of each kind, stride
    ("fire2", 16, 64, 4),
    ("fire3", 16, 64, 4),
    ("fire4", 32, 128, 4),
    ("fire5", 32, 128, 8),
    ("fire6", 48, 192, 8),
    ("fire7", 48, 192, 8),
    ("fire8", 64, 256, 8),
    ("fire9", 64, 256, 16),
)
STAGES = ("conv1", *(name for name, *_ in FIRES))
POOLED_AFTER = ("conv1", "fire4", "fire8")
FEATURES = (
    FeatureSpec("conv1", "map", 96, 2),
    *(FeatureSpec(name, "map", 2 * expanded, stride) for name, _, expanded, stride in FIRES),
    FeatureSpec("pooled", "vector", 512),
)
CAFFE = Dialect(
    "caffe",
    (
        *conv("conv1", "backbone/conv1", layout="stem"),
        *conv("fire{i}.conv1x1_1", "backbone/fire{i}/squeeze"),
        *conv("fire{i}.conv1x1_2", "backbone/fire{i}/expand1x1"),
        *conv("fire{i}.conv3x3_2", "backbone/fire{i}/expand3x3"),
        *conv("conv_final", "head"),
    ),
)
"""The layers' names in the reference network, with `.weight` and `.bias` behind."""


def _conv(
    cin: int, cout: int, size: int, rngs: nnx.Rngs, stride: int = 1, pad: int = 0
) -> nnx.Conv:
    pads = ((pad, pad), (pad, pad))
    return nnx.Conv(cin, cout, (size, size), strides=stride, padding=pads, rngs=rngs)


class Fire(nnx.Module):
    """1x1 convolutions to few channels, then 1x1 and 3x3 ones to many (figure 1)."""

    def __init__(self, cin: int, squeezed: int, expanded: int, rngs: nnx.Rngs):
        self.squeeze = _conv(cin, squeezed, 1, rngs)
        self.expand1x1 = _conv(squeezed, expanded, 1, rngs)
        self.expand3x3 = _conv(squeezed, expanded, 3, rngs, pad=1)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H,W,2*expanded)."""
        x = nnx.relu(self.squeeze(x))
        return nnx.relu(jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], -1))


class SqueezeNet(nnx.Module):
    """The body up to the last fire module, in stages."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = _conv(3, 96, 7, rngs, stride=2)
        cin = 96
        for name, squeezed, expanded, _ in FIRES:
            setattr(self, name, Fire(cin, squeezed, expanded, rngs))
            cin = 2 * expanded

    def stage(self, name: str, x: Array) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise. Where a
        pooling follows, the feature is the map before it."""
        x = nnx.relu(self.conv1(x)) if name == "conv1" else getattr(self, name)(x)
        features = {name: x}
        if name == STAGES[-1]:
            features["pooled"] = x.mean((1, 2))
        return (_pooled(x) if name in POOLED_AFTER else x), features


def _pooled(x: Array) -> Array:
    """3x3 maxima with stride 2; a last window that hangs over the edge counts (ceil mode)."""
    ends = [(0, (size - 3) % 2) for size in x.shape[1:3]]
    lowest = jnp.finfo(x.dtype).min
    x = jnp.pad(x, ((0, 0), *ends, (0, 0)), constant_values=lowest)
    return max_pool(x, 3, 2, 0)


def squeezenet() -> Backbone:
    """26 layers with the classifier, 735,424 parameters without it."""
    return NnxBackbone(SqueezeNet, FEATURES, INPUTS, (), STAGES, dialects=(CAFFE,))
