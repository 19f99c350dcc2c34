"""ResNets for 32 x 32 pictures: 6n+2 layers in three stages of 16, 32 and 64 channels.

He et al. 2015, 'Deep Residual Learning for Image Recognition', section 4.2. Option A shortcuts
have no parameters: every other pixel, and zeros for the channels that are new. Option B projects.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from flax import nnx
from jax import Array
from tlx_image.image_input import with_channels

from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.batch_norm import NORM_MODES
from tlx_flax.inputs import CIFAR10
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.resnet_names import resnet_dialects
from tlx_flax.resnet_parts import Design, Stage, Stem
from tlx_flax.visible import Visible, visible_mean

FEATURES = (
    FeatureSpec("stem", "map", 16, 1),
    FeatureSpec("stage1", "map", 16, 1),
    FeatureSpec("stage2", "map", 32, 2),
    FeatureSpec("stage3", "map", 64, 4),
    FeatureSpec("pooled", "vector", 64),
)
STAGES = ("stem", "stage1", "stage2", "stage3")

Shortcut: TypeAlias = Literal["A", "B"]


class CifarResNet(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(self, n: int, shortcut: Shortcut, channels: int, rngs: nnx.Rngs):
        design = Design("basic", shortcut)
        self.stem = Stem(((3, 16, 1),), channels, rngs)
        self.stage1 = Stage(design, n, 16, 16, 1, rngs)
        self.stage2 = Stage(design, n, 16, 32, 2, rngs)
        self.stage3 = Stage(design, n, 32, 64, 2, rngs)

    def stage(
        self, name: str, x: Array, visible: Visible | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise."""
        x = getattr(self, name)(x, visible)
        features = {name: x}
        if name == STAGES[-1]:
            features["pooled"] = visible_mean(x, visible)
        return x, features


def _resnet(n: int, shortcut: Shortcut, channels: int) -> Backbone:
    inputs = with_channels(CIFAR10, channels)
    options = (("n", n), ("shortcut", shortcut), ("channels", channels))
    dialects, cell = resnet_dialects(), FEATURES[-2].stride
    return NnxBackbone(CifarResNet, FEATURES, inputs, options, STAGES, NORM_MODES, dialects, cell)


def resnet20(shortcut: Shortcut = "A", channels: int = 3) -> Backbone:
    """20 layers, 269,072 parameters with option A shortcuts, without classifier."""
    return _resnet(3, shortcut, channels)


def resnet32(shortcut: Shortcut = "A", channels: int = 3) -> Backbone:
    """32 layers, 463,504 parameters with option A shortcuts, without classifier."""
    return _resnet(5, shortcut, channels)


def resnet44(shortcut: Shortcut = "A", channels: int = 3) -> Backbone:
    """44 layers, 657,936 parameters with option A shortcuts, without classifier."""
    return _resnet(7, shortcut, channels)


def resnet56(shortcut: Shortcut = "A", channels: int = 3) -> Backbone:
    """56 layers, 852,368 parameters with option A shortcuts, without classifier."""
    return _resnet(9, shortcut, channels)
