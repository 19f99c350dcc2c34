"""Published variants of the ImageNet ResNets: other shortcuts, wider or grouped 3x3 convolutions.

D: a deep stem, and shortcuts that average the pixels which a stride would skip (He et al. 2018,
'Bag of Tricks for Image Classification', figure 2). Wide: twice the channels between the 1x1
convolutions (Zagoruyko and Komodakis 2016). ResNeXt: those channels in groups (Xie et al. 2017).
"""

from __future__ import annotations

from tlx.protocols import Backbone
from tlx_flax.resnet_imagenet import StemKind, imagenet_resnet
from tlx_flax.resnet_parts import Design

BASIC_D, BOTTLENECK_D = Design("basic", "D"), Design("bottleneck", "D")
WIDE = Design("bottleneck", group_width=128)


def resnet18d(stem: StemKind = "deep", channels: int = 3) -> Backbone:
    """ResNet-18 with the D stem and shortcuts, 11,195,744 parameters without classifier."""
    return imagenet_resnet((2, 2, 2, 2), BASIC_D, stem, channels)


def resnet34d(stem: StemKind = "deep", channels: int = 3) -> Backbone:
    """ResNet-34 with the D stem and shortcuts, 21,303,904 parameters without classifier."""
    return imagenet_resnet((3, 4, 6, 3), BASIC_D, stem, channels)


def resnet50d(stem: StemKind = "deep", channels: int = 3) -> Backbone:
    """ResNet-50 with the D stem and shortcuts, 23,527,264 parameters without classifier."""
    return imagenet_resnet((3, 4, 6, 3), BOTTLENECK_D, stem, channels)


def resnet101d(stem: StemKind = "deep", channels: int = 3) -> Backbone:
    """ResNet-101 with the D stem and shortcuts, 42,519,392 parameters without classifier."""
    return imagenet_resnet((3, 4, 23, 3), BOTTLENECK_D, stem, channels)


def wide_resnet50_2(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """ResNet-50 of twice the inner width, 66,834,240 parameters without classifier."""
    return imagenet_resnet((3, 4, 6, 3), WIDE, stem, channels)


def wide_resnet101_2(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """ResNet-101 of twice the inner width, 124,837,696 parameters without classifier."""
    return imagenet_resnet((3, 4, 23, 3), WIDE, stem, channels)


def resnext50_32x4d(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """50 layers, 32 groups of 4 channels, 22,979,904 parameters without classifier."""
    design = Design("bottleneck", groups=32, group_width=4)
    return imagenet_resnet((3, 4, 6, 3), design, stem, channels)


def resnext101_32x8d(stem: StemKind = "imagenet", channels: int = 3) -> Backbone:
    """101 layers, 32 groups of 8 channels, 86,742,336 parameters without classifier."""
    design = Design("bottleneck", groups=32, group_width=8)
    return imagenet_resnet((3, 4, 23, 3), design, stem, channels)
