"""ResNets for 224 x 224 pictures: four stages behind a stem that divides the size by four.

He et al. 2015, 'Deep Residual Learning for Image Recognition', table 1, with projections where
the shape changes and the stride of a bottleneck on its 3x3 convolution (version 1.5), which is
what published PyTorch weights mean by these names. The variants that widen, group or average are
in `resnet_variants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from flax import nnx
from jax import Array
from tlx_image.image_input import with_channels

from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.batch_norm import NORM_MODES
from tlx_flax.inputs import CIFAR10, IMAGENET
from tlx_flax.max_pool import max_pool
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.resnet_names import resnet_dialects
from tlx_flax.resnet_parts import Design, Stage, Stem
from tlx_flax.visible import Visible, hidden_as_zero, visible_mean

STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
WIDTHS = (64, 128, 256, 512)
STEMS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "imagenet": ((7, 64, 2),),
    "deep": ((3, 32, 2), (3, 32, 1), (3, 64, 1)),
    "small": ((3, 64, 1),),
}
"""(size, channels, stride) of each convolution."""

Blocks: TypeAlias = tuple[int, int, int, int]
StemKind: TypeAlias = Literal["imagenet", "deep", "small"]
"""imagenet: 7x7 with stride 2, then max-pooling. deep: three 3x3 in its place (He et al. 2018,
'Bag of Tricks', ResNet-C). small: one 3x3 without stride or pooling, for pictures of 32 x 32
(Chen et al. 2020, 'SimCLR', appendix B.9)."""


class ImageNetResNet(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(
        self, blocks: Blocks, design: Design, stem: StemKind, channels: int, rngs: nnx.Rngs
    ):
        self.pools = stem != "small"
        self.stem = Stem(STEMS[stem], channels, rngs)
        cin = 64
        for name, number, width in zip(STAGES[1:], blocks, WIDTHS, strict=True):
            stride = 1 if name == "stage1" else 2
            setattr(self, name, Stage(design, number, cin, width, stride, rngs))
            cin = design.cout(width)

    def stage(
        self, name: str, x: Array, visible: Visible | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise.

        The feature `stem` is the map before max-pooling; the next stage reads it pooled."""
        x = getattr(self, name)(x, visible)
        features = {name: x}
        if name == "stem" and self.pools:
            x = hidden_as_zero(max_pool(x, 3, 2, 1), visible)
        if name == STAGES[-1]:
            features["pooled"] = visible_mean(x, visible)
        return x, features


def imagenet_resnet(
    blocks: Blocks, design: Design, stem: StemKind = "imagenet", channels: int = 3
) -> Backbone:
    """A ResNet of four stages; its pictures are 32 x 32 by default where the stem is small."""
    strides = (1, 1, 2, 4, 8) if stem == "small" else (2, 4, 8, 16, 32)
    widths = (64, *(design.cout(width) for width in WIDTHS))
    features = (
        *(
            FeatureSpec(name, "map", width, stride)
            for name, width, stride in zip(STAGES, widths, strides, strict=True)
        ),
        FeatureSpec("pooled", "vector", widths[-1]),
    )
    inputs = with_channels(CIFAR10 if stem == "small" else IMAGENET, channels)
    options = (("blocks", blocks), ("design", design), ("stem", stem), ("channels", channels))
    dialects = resnet_dialects(deep=stem == "deep", pooled=design.shortcut == "D")
    return NnxBackbone(
        ImageNetResNet, features, inputs, options, STAGES, NORM_MODES, dialects, strides[-1]
    )


BASIC, BOTTLENECK = Design("basic"), Design("bottleneck")


def resnet18(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """18 layers in basic blocks, 11,176,512 parameters without classifier."""
    return imagenet_resnet((2, 2, 2, 2), BASIC, stem, channels)


def resnet34(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """34 layers in basic blocks, 21,284,672 parameters without classifier."""
    return imagenet_resnet((3, 4, 6, 3), BASIC, stem, channels)


def resnet50(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """50 layers in bottlenecks, 23,508,032 parameters without classifier."""
    return imagenet_resnet((3, 4, 6, 3), BOTTLENECK, stem, channels)


def resnet101(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """101 layers in bottlenecks, 42,500,160 parameters without classifier."""
    return imagenet_resnet((3, 4, 23, 3), BOTTLENECK, stem, channels)


def resnet152(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """152 layers in bottlenecks, 58,143,808 parameters without classifier."""
    return imagenet_resnet((3, 8, 36, 3), BOTTLENECK, stem, channels)
