"""Depthwise convolution: every channel with a small kernel of its own, here fast on a CPU as well.

XLA's own depthwise convolution runs one channel at a time on a CPU, 9 to 17 times slower than
what stands here (`benchmarks/depthwise_vs_torch.py`): the map, moved once for each position of
the kernel, times that position's weights, which the compiler fuses into one pass over the map.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax


class DepthwiseConv(nnx.Module):
    """A `size` x `size` convolution per channel with bias, `size` odd, stride 1, padded with zeros
    by half its size on every side (Liu et al. 2022, section 2.3 and 2.5, takes 7).

    The kernel is (size,size,1,channels), as Flax has it for one group per channel."""

    def __init__(self, channels: int, size: int, init: nnx.Initializer, rngs: nnx.Rngs):
        self.kernel = nnx.Param(init(rngs.params(), (size, size, 1, channels)))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Array) -> Array:
        """(B,H,W,channels) to the same shape."""
        return depthwise_conv(x, self.kernel.get_value()) + self.bias.get_value()


def depthwise_conv(x: Array, kernel: Array) -> Array:
    """A map (B,H,W,C) under a kernel (n,n,1,C), n odd, padded with n // 2 zeros on every side.

    On a CPU, reverse mode only: `jax.jvp` and `jax.jacfwd` do not go through it."""
    return lax.platform_dependent(x, kernel, cpu=_moved, default=_grouped)


def _grouped(x: Array, kernel: Array) -> Array:
    pads = [(n // 2, n // 2) for n in kernel.shape[:2]]
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=axes, feature_group_count=x.shape[-1]
    )


def _padded(x: Array, size: int) -> Array:
    pads = (size // 2, size // 2)
    return jnp.pad(x, ((0, 0), pads, pads, (0, 0)))


def _correlated(x: Array, kernel: Array) -> Array:
    size, (height, width) = kernel.shape[0], x.shape[1:3]
    wide, total = _padded(x, size), jnp.zeros((), x.dtype)
    for i in range(size):
        for j in range(size):
            total += wide[:, i : i + height, j : j + width] * kernel[i, j, 0]
    return total


@jax.custom_vjp
def _moved(x: Array, kernel: Array) -> Array:
    return _correlated(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _correlated(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size, wide = kernel.shape[0], _padded(x, kernel.shape[0])

    def weight(at: Array) -> Array:
        """The gradient (C,) of one position; a loop over them compiles in a third of the time."""
        seen = lax.dynamic_slice(wide, (0, at // size, at % size, 0), gradient.shape)
        return jnp.einsum("bhwc,bhwc->c", seen, gradient)

    weights = lax.map(weight, jnp.arange(size * size)).reshape(kernel.shape)
    return _correlated(gradient, kernel[::-1, ::-1]), weights


_moved.defvjp(_forward, _backward)
