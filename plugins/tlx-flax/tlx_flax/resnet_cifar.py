"""ResNets for 32 x 32 pictures: 6n+2 layers in three stages of 16, 32 and 64 channels.

He et al. 2015, 'Deep Residual Learning for Image Recognition', section 4.2. Option A shortcuts
have no parameters: every other pixel, and zeros for the channels that are new. Option B projects.
"""

from __future__ import annotations

from flax import nnx
from jax import Array

from tlx.protocols import Backbone
from tlx.types import FeatureSpec, InputSpec
from tlx_flax.batch_norm import BatchNorm
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.resnet_names import resnet_name
from tlx_flax.resnet_parts import BasicBlock, Shortcut, Stage, conv

INPUTS = InputSpec(size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of CIFAR-10's training pictures."""
FEATURES = (
    FeatureSpec("stem", "map", 16, 1),
    FeatureSpec("stage1", "map", 16, 1),
    FeatureSpec("stage2", "map", 32, 2),
    FeatureSpec("stage3", "map", 64, 4),
    FeatureSpec("pooled", "vector", 64),
)
STAGES = ("stem", "stage1", "stage2", "stage3")


class Stem(nnx.Module):
    """The first convolution."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = conv(3, 16, 3, 1, rngs)
        self.bn1 = BatchNorm(16)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,3) to (B,H,W,16)."""
        return nnx.relu(self.bn1(self.conv1(x)))


class CifarResNet(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(self, n: int, shortcut: Shortcut, rngs: nnx.Rngs):
        self.stem = Stem(rngs)
        self.stage1 = Stage(BasicBlock, n, 16, 16, 1, shortcut, rngs)
        self.stage2 = Stage(BasicBlock, n, 16, 32, 2, shortcut, rngs)
        self.stage3 = Stage(BasicBlock, n, 32, 64, 2, shortcut, rngs)

    def stage(self, name: str, x: Array) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise."""
        x = getattr(self, name)(x)
        features = {name: x}
        if name == STAGES[-1]:
            features["pooled"] = x.mean((1, 2))
        return x, features


def _resnet(n: int, shortcut: Shortcut) -> Backbone:
    options = (("n", n), ("shortcut", shortcut))
    return NnxBackbone(CifarResNet, FEATURES, INPUTS, options, STAGES, foreign=resnet_name)


def resnet20(shortcut: Shortcut = "A") -> Backbone:
    """20 layers, 269,072 parameters with option A shortcuts, without classifier."""
    return _resnet(3, shortcut)


def resnet32(shortcut: Shortcut = "A") -> Backbone:
    """32 layers, 463,504 parameters with option A shortcuts, without classifier."""
    return _resnet(5, shortcut)


def resnet44(shortcut: Shortcut = "A") -> Backbone:
    """44 layers, 657,936 parameters with option A shortcuts, without classifier."""
    return _resnet(7, shortcut)


def resnet56(shortcut: Shortcut = "A") -> Backbone:
    """56 layers, 852,368 parameters with option A shortcuts, without classifier."""
    return _resnet(9, shortcut)
