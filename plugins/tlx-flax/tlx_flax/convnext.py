"""ConvNeXt: a convolutional network with the proportions and parts of a Swin Transformer.

Liu et al. 2022, 'A ConvNet for the 2020s' (arXiv:2201.03545). Four stages behind a stem of 4 x 4
patches; a block is a 7 x 7 depthwise convolution, a layer norm and an MLP, scaled per channel and
added. There is no batch norm, so nothing depends on the batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from tlx_image.image_input import with_channels

from tlx.errors import ConfigError
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.convnext_names import CONVNEXT_DIALECTS
from tlx_flax.depthwise_conv import DepthwiseConv
from tlx_flax.inputs import IMAGENET
from tlx_flax.nnx_backbone import NnxBackbone

INPUTS = replace(IMAGENET, interpolation="bicubic")
"""Mean and standard deviation of ImageNet; resized to 256, the middle 224 kept."""
STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")
LAYER_SCALE = 1e-6
"""What a block's scale starts from (Touvron et al. 2021, arXiv:2103.17239, section 2.1)."""

Widths: TypeAlias = tuple[int, int, int, int]
Depths: TypeAlias = tuple[int, int, int, int]

normal = nnx.initializers.truncated_normal(0.02)
"""Of every kernel (the authors' implementation)."""


def norm(channels: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer norm over the channels of every position; two passes, as PyTorch computes it."""
    return nnx.LayerNorm(channels, epsilon=1e-6, use_fast_variance=False, rngs=rngs)


def patches(cin: int, cout: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution whose kernel and stride are both `size`; what is left at the edge is cut."""
    window = (size, size)
    return nnx.Conv(cin, cout, window, strides=size, padding="VALID", kernel_init=normal, rngs=rngs)


class Stem(nnx.Module):
    """4 x 4 patches and a layer norm."""

    def __init__(self, cin: int, width: int, rngs: nnx.Rngs):
        self.conv = patches(cin, width, 4, rngs)
        self.norm = norm(width, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/4,W/4,width)."""
        return self.norm(self.conv(x))


class Downsample(nnx.Module):
    """A layer norm and 2 x 2 patches."""

    def __init__(self, cin: int, cout: int, rngs: nnx.Rngs):
        self.norm = norm(cin, rngs)
        self.conv = patches(cin, cout, 2, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/2,W/2,cout)."""
        return self.conv(self.norm(x))


class LayerScale(nnx.Module):
    """A factor per channel that starts close to nothing."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.full(width, LAYER_SCALE))

    def __call__(self, x: Array) -> Array:
        """(B,H,W,width) to the same."""
        return x * self.scale.get_value()


class Block(nnx.Module):
    """Depthwise convolution, layer norm, MLP of four times the width, layer scale, shortcut
    (figure 4). `drop` is the probability that an example skips it while training."""

    def __init__(self, width: int, drop: float, rngs: nnx.Rngs):
        self.dwconv = DepthwiseConv(width, 7, normal, rngs)
        self.norm = norm(width, rngs)
        self.fc1 = nnx.Linear(width, 4 * width, kernel_init=normal, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, kernel_init=normal, rngs=rngs)
        self.layer_scale = LayerScale(width)
        # One number per example; without it there is no random stream to carry along.
        self.drop = nnx.Dropout(drop, broadcast_dims=(1, 2, 3), rngs=rngs) if drop else None

    def __call__(self, x: Array) -> Array:
        """(B,H,W,width) to the same."""
        y = jax.nn.gelu(self.fc1(self.norm(self.dwconv(x))), approximate=False)
        y = self.layer_scale(self.fc2(y))
        return x + (y if self.drop is None else self.drop(y))


class Stage(nnx.Module):
    """Blocks of one width, `block0`, `block1` and so on; all stages but the first halve the map
    before. The last one has the norm of the pooled vector."""

    def __init__(self, cin: int, width: int, drops: tuple[float, ...], last: bool, rngs: nnx.Rngs):
        self.blocks = len(drops)
        self.downsample = Downsample(cin, width, rngs) if cin != width else None
        for number, drop in enumerate(drops):
            setattr(self, f"block{number}", Block(width, drop, rngs))
        self.norm = norm(width, rngs) if last else None

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/2,W/2,width), or the same size where the width stays."""
        x = x if self.downsample is None else self.downsample(x)
        for number in range(self.blocks):
            x = getattr(self, f"block{number}")(x)
        return x


class ConvNeXt(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(
        self, depths: Depths, widths: Widths, channels: int, drop_path: float, rngs: nnx.Rngs
    ):
        self.stem = Stem(channels, widths[0], rngs)
        # Stochastic depth rises linearly from the first block to the last (Huang et al. 2016).
        steps = max(sum(depths) - 1, 1)
        cin, block = widths[0], 0
        for name, depth, width in zip(STAGES[1:], depths, widths, strict=True):
            drops = tuple(drop_path * (block + i) / steps for i in range(depth))
            setattr(self, name, Stage(cin, width, drops, name == STAGES[-1], rngs))
            cin, block = width, block + depth

    def stage(self, name: str, x: Array) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise."""
        piece: Any = getattr(self, name)
        x = piece(x)
        features = {name: x}
        if name == STAGES[-1]:
            features["pooled"] = piece.norm(x.mean((1, 2)))
        return x, features


def convnext(depths: Depths, widths: Widths, channels: int = 3, drop_path: float = 0.0) -> Backbone:
    """Any ConvNeXt of four stages; `convnext_tiny` and its kin are the published ones.

    Raises ConfigError for a `drop_path` outside of 0..1 (1 excluded) or no channel."""
    if not 0 <= drop_path < 1:
        raise ConfigError(
            f"drop_path is the probability that the last block is skipped while training, from 0 "
            f"to below 1, not {drop_path}."
        )
    features = (
        FeatureSpec("stem", "map", widths[0], 4),
        *(
            FeatureSpec(name, "map", width, stride)
            for name, width, stride in zip(STAGES[1:], widths, (4, 8, 16, 32), strict=True)
        ),
        FeatureSpec("pooled", "vector", widths[-1]),
    )
    options = {"depths": depths, "widths": widths, "channels": channels, "drop_path": drop_path}
    return NnxBackbone(
        ConvNeXt,
        features,
        with_channels(INPUTS, channels),
        tuple(options.items()),
        STAGES,
        dialects=CONVNEXT_DIALECTS,
    )


def convnext_tiny(channels: int = 3, drop_path: float = 0.0) -> Backbone:
    """ConvNeXt-T, 27,820,128 parameters without classifier.

    Args:
        channels: of the pictures.
        drop_path: probability that the last block is skipped, falling linearly to 0 at the first
            (the paper's table 5: 0.1, 0.4 and 0.5 for T, S and B).
    """
    return convnext((3, 3, 9, 3), (96, 192, 384, 768), channels, drop_path)


def convnext_small(channels: int = 3, drop_path: float = 0.0) -> Backbone:
    """ConvNeXt-S, 49,454,688 parameters without classifier; options as for `convnext_tiny`."""
    return convnext((3, 3, 27, 3), (96, 192, 384, 768), channels, drop_path)


def convnext_base(channels: int = 3, drop_path: float = 0.0) -> Backbone:
    """ConvNeXt-B, 87,566,464 parameters without classifier; options as for `convnext_tiny`."""
    return convnext((3, 3, 27, 3), (128, 256, 512, 1024), channels, drop_path)
