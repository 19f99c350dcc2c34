"""The layers that all ResNets share, as PyTorch's ResNets have them.

Convolutions pad explicitly on both sides (Flax's 'SAME' pads stride 2 only behind), carry no
bias and start from He's normal distribution over the fan-out.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax import nnx
from jax import Array

from tlx_flax.batch_norm import BatchNorm

Shortcut: TypeAlias = Literal["A", "B"]
"""He et al. 2015, section 3.3: A pads new channels with zeros, B projects them."""

he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015, 'Delving Deep into Rectifiers', section 2.2, the backward case."""


def conv(cin: int, cout: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A `size` x `size` convolution without bias, padded by half its size on every side."""
    pad = (size // 2, size // 2)
    return nnx.Conv(
        cin,
        cout,
        (size, size),
        strides=stride,
        padding=(pad, pad),
        use_bias=False,
        kernel_init=he_normal,
        rngs=rngs,
    )


class Projection(nnx.Module):
    """Option B shortcut: a 1x1 convolution with stride, then batch norm."""

    def __init__(self, cin: int, cout: int, stride: int, rngs: nnx.Rngs):
        self.conv = conv(cin, cout, 1, stride, rngs)
        self.bn = BatchNorm(cout)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        return self.bn(self.conv(x))


class PadShortcut(nnx.Module):
    """Option A shortcut: every `stride`-th pixel, and zeros for the channels that are new, half
    of them before and half after the old ones."""

    def __init__(self, cin: int, cout: int, stride: int):
        self.stride = stride
        self.before, self.after = (cout - cin) // 2, (cout - cin + 1) // 2

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.before, self.after)))


def shortcut(option: Shortcut, cin: int, cout: int, stride: int, rngs: nnx.Rngs) -> Any:
    """The way around a block; None where the shape stays and the input itself will do."""
    if stride == 1 and cin == cout:
        return None
    if option == "A":
        return PadShortcut(cin, cout, stride)
    return Projection(cin, cout, stride, rngs)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5 left)."""

    def __init__(self, cin: int, width: int, stride: int, option: Shortcut, rngs: nnx.Rngs):
        self.conv1 = conv(cin, width, 3, stride, rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3, 1, rngs)
        self.bn2 = BatchNorm(width)
        self.shortcut = shortcut(option, cin, width, stride, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,width)."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2015, figure 5 right).

    The stride is on the 3x3 convolution, which is called version 1.5; the paper has it on the
    first 1x1."""

    def __init__(self, cin: int, width: int, stride: int, option: Shortcut, rngs: nnx.Rngs):
        self.conv1 = conv(cin, width, 1, 1, rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3, stride, rngs)
        self.bn2 = BatchNorm(width)
        self.conv3 = conv(width, 4 * width, 1, 1, rngs)
        self.bn3 = BatchNorm(4 * width)
        self.shortcut = shortcut(option, cin, 4 * width, stride, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,4*width)."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Stage(nnx.Module):
    """`blocks` blocks of one width, `block0`, `block1` and so on; the first changes the shape."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: int,
        cin: int,
        width: int,
        stride: int,
        option: Shortcut,
        rngs: nnx.Rngs,
    ):
        self.blocks = blocks
        self.block0 = block(cin, width, stride, option, rngs)
        cout = 4 * width if block is Bottleneck else width
        for number in range(1, blocks):
            setattr(self, f"block{number}", block(cout, width, 1, option, rngs))

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout)."""
        for number in range(self.blocks):
            x = getattr(self, f"block{number}")(x)
        return x
