"""The layers that all ResNets share, as PyTorch's ResNets have them.

Convolutions pad explicitly on both sides (Flax's 'SAME' pads stride 2 only behind), carry no
bias and start from He's normal distribution over the fan-out. Behind each stands a batch norm,
which hides again what is not visible; all else here keeps the zeros that stand for it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from flax import nnx
from jax import Array

from tlx_flax.batch_norm import BatchNorm
from tlx_flax.convolution import Conv
from tlx_flax.visible import Visible

Shortcut: TypeAlias = Literal["A", "B", "D"]
"""He et al. 2015, section 3.3: A pads new channels with zeros, B projects them. He et al. 2018,
'Bag of Tricks', section 4.2: D averages the pixels that a stride would skip, then projects."""


class Stem(nnx.Module):
    """What reads the picture: convolutions `conv1`, `conv2` and so on of the given (size, channels,
    stride), each with batch norm and relu."""

    def __init__(self, layers: tuple[tuple[int, int, int], ...], channels: int, rngs: nnx.Rngs):
        self.layers = len(layers)
        for number, (size, cout, stride) in enumerate(layers, 1):
            setattr(self, f"conv{number}", Conv(channels, cout, size, stride, rngs))
            setattr(self, f"bn{number}", BatchNorm(cout))
            channels = cout

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,channels) to (B,H/strides,W/strides,cout)."""
        for number in range(1, self.layers + 1):
            x = getattr(self, f"conv{number}")(x)
            x = nnx.relu(getattr(self, f"bn{number}")(x, visible))
        return x


class Projection(nnx.Module):
    """Option B shortcut: a 1x1 convolution with stride, then batch norm. `pooled` is option D:
    means of `stride` x `stride` pixels, fewer at an edge that does not divide, come first."""

    def __init__(self, cin: int, cout: int, stride: int, pooled: bool, rngs: nnx.Rngs):
        self.window = stride if pooled else 1
        self.conv = Conv(cin, cout, 1, stride // self.window, rngs)
        self.bn = BatchNorm(cout)

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        if self.window > 1:
            window = (self.window, self.window)  # never across the border of a cell
            mean = nnx.avg_pool(x, window, window, "SAME", count_include_pad=False)
            x = mean.astype(x.dtype)  # it divides by float32 counts
        return self.bn(self.conv(x), visible)


class PadShortcut(nnx.Module):
    """Option A shortcut: every `stride`-th pixel, and zeros for the channels that are new, half
    of them before and half after the old ones."""

    def __init__(self, cin: int, cout: int, stride: int):
        self.stride = stride
        self.before, self.after = (cout - cin) // 2, (cout - cin + 1) // 2

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


def shortcut(option: Shortcut, cin: int, cout: int, stride: int, rngs: nnx.Rngs) -> Any:
    """The way around a block; None where the shape stays and the input itself will do."""
    if stride == 1 and cin == cout:
        return None
    if option == "A":
        return PadShortcut(cin, cout, stride)
    return Projection(cin, cout, stride, option == "D", rngs)


class Design(NamedTuple):
    """What the blocks of a network have in common.

    Args:
        kind: two 3x3 convolutions, or a 3x3 between two 1x1.
        shortcut: the option where a block changes the shape.
        groups: of a bottleneck's 3x3; 32 make a ResNeXt (Xie et al. 2017).
        group_width: channels of one group in a stage of 64; 128 in one group make a wide ResNet
            (Zagoruyko and Komodakis 2016).
    """

    kind: Literal["basic", "bottleneck"]
    shortcut: Shortcut = "B"
    groups: int = 1
    group_width: int = 64

    def cout(self, width: int) -> int:
        """Channels behind a block of the stage of this width."""
        return width if self.kind == "basic" else 4 * width

    def block(self, cin: int, width: int, stride: int, rngs: nnx.Rngs) -> nnx.Module:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        way = shortcut(self.shortcut, cin, self.cout(width), stride, rngs)
        if self.kind == "basic":
            return BasicBlock(cin, width, stride, way, rngs)
        inner = width * self.group_width // 64 * self.groups
        return Bottleneck(cin, inner, self.cout(width), stride, self.groups, way, rngs)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5 left)."""

    def __init__(self, cin: int, cout: int, stride: int, shortcut: Any, rngs: nnx.Rngs):
        self.conv1 = Conv(cin, cout, 3, stride, rngs)
        self.bn1 = BatchNorm(cout)
        self.conv2 = Conv(cout, cout, 3, 1, rngs)
        self.bn2 = BatchNorm(cout)
        self.shortcut = shortcut

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        y = nnx.relu(self.bn1(self.conv1(x), visible))
        y = self.bn2(self.conv2(y), visible)
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x, visible)))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2015, figure 5 right).

    The stride is on the 3x3 convolution, which is called version 1.5; the paper has it on the
    first 1x1."""

    def __init__(
        self,
        cin: int,
        inner: int,
        cout: int,
        stride: int,
        groups: int,
        shortcut: Any,
        rngs: nnx.Rngs,
    ):
        self.conv1 = Conv(cin, inner, 1, 1, rngs)
        self.bn1 = BatchNorm(inner)
        self.conv2 = Conv(inner, inner, 3, stride, rngs, groups)
        self.bn2 = BatchNorm(inner)
        self.conv3 = Conv(inner, cout, 1, 1, rngs)
        self.bn3 = BatchNorm(cout)
        self.shortcut = shortcut

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        y = nnx.relu(self.bn1(self.conv1(x), visible))
        y = nnx.relu(self.bn2(self.conv2(y), visible))
        y = self.bn3(self.conv3(y), visible)
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x, visible)))


class Stage(nnx.Module):
    """`blocks` blocks of one width, `block0`, `block1` and so on; the first changes the shape."""

    def __init__(
        self, design: Design, blocks: int, cin: int, width: int, stride: int, rngs: nnx.Rngs
    ):
        self.blocks = blocks
        for number in range(blocks):
            setattr(self, f"block{number}", design.block(cin, width, stride, rngs))
            cin, stride = design.cout(width), 1

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        for number in range(self.blocks):
            x = getattr(self, f"block{number}")(x, visible)
        return x
