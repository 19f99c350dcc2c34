"""ResNets for 224 x 224 pictures: four stages behind a stem that divides the size by four.

He et al. 2015, 'Deep Residual Learning for Image Recognition', table 1, with projections where
the shape changes and the stride of a bottleneck on its 3x3 convolution (version 1.5), which is
what published PyTorch weights mean by these names.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from flax import nnx
from jax import Array

from tlx.protocols import Backbone
from tlx.types import FeatureSpec, InputSpec
from tlx_flax.batch_norm import BatchNorm
from tlx_flax.max_pool import max_pool
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.resnet_names import resnet_name
from tlx_flax.resnet_parts import BasicBlock, Bottleneck, Stage, conv

INPUTS = InputSpec(
    size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875
)
"""Mean and standard deviation of ImageNet; resized to 256, the middle 224 kept."""
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
WIDTHS = (64, 128, 256, 512)

Blocks: TypeAlias = tuple[int, int, int, int]
Kind: TypeAlias = Literal["basic", "bottleneck"]


class Stem(nnx.Module):
    """The first convolution, 7x7 with stride 2."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = conv(3, 64, 7, 2, rngs)
        self.bn1 = BatchNorm(64)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,3) to (B,H/2,W/2,64)."""
        return nnx.relu(self.bn1(self.conv1(x)))


class ImageNetResNet(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(self, blocks: Blocks, kind: Kind, rngs: nnx.Rngs):
        block, factor = (BasicBlock, 1) if kind == "basic" else (Bottleneck, 4)
        self.stem = Stem(rngs)
        cin = 64
        for name, number, width in zip(STAGES[1:], blocks, WIDTHS, strict=True):
            stride = 1 if name == "stage1" else 2
            setattr(self, name, Stage(block, number, cin, width, stride, "B", rngs))
            cin = factor * width

    def stage(self, name: str, x: Array) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise.

        The feature `stem` is the picture at half its size; the next stage reads it max-pooled."""
        x = getattr(self, name)(x)
        features = {name: x}
        if name == "stem":
            x = max_pool(x, 3, 2, 1)
        if name == STAGES[-1]:
            features["pooled"] = x.mean((1, 2))
        return x, features


def _resnet(blocks: Blocks, kind: Kind) -> Backbone:
    channels = [width * (1 if kind == "basic" else 4) for width in WIDTHS]
    features = (
        FeatureSpec("stem", "map", 64, 2),
        *(
            FeatureSpec(name, "map", width, stride)
            for name, width, stride in zip(STAGES[1:], channels, (4, 8, 16, 32), strict=True)
        ),
        FeatureSpec("pooled", "vector", channels[-1]),
    )
    options = (("blocks", blocks), ("kind", kind))
    return NnxBackbone(ImageNetResNet, features, INPUTS, options, STAGES, foreign=resnet_name)


def resnet18() -> Backbone:
    """18 layers in basic blocks, 11,176,512 parameters without classifier."""
    return _resnet((2, 2, 2, 2), "basic")


def resnet34() -> Backbone:
    """34 layers in basic blocks, 21,284,672 parameters without classifier."""
    return _resnet((3, 4, 6, 3), "basic")


def resnet50() -> Backbone:
    """50 layers in bottlenecks, 23,508,032 parameters without classifier."""
    return _resnet((3, 4, 6, 3), "bottleneck")


def resnet101() -> Backbone:
    """101 layers in bottlenecks, 42,500,160 parameters without classifier."""
    return _resnet((3, 4, 23, 3), "bottleneck")


def resnet152() -> Backbone:
    """152 layers in bottlenecks, 58,143,808 parameters without classifier."""
    return _resnet((3, 8, 36, 3), "bottleneck")
