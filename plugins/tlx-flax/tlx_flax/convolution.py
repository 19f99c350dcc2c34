"""Convolutions without bias, and what XLA's CPU backend does badly done otherwise there.

Two things were measured to help (jax 0.10.2, two cores; `benchmarks/convolutions.py`):
a 1x1 convolution as the product of two matrices that it is, 1.2 to 2.8 times faster in the weight
gradient and up to 1.3 times forward (the input's gradient is twice as fast with a stride, and half
as fast for 2048 channels of 7 x 7); and the weight gradient of few channels in parts of 16
pictures, whose transposed copies stay in the cache: 1.3 to 1.7 times faster.
What was no gain: the weight gradient as products of maps shifted on one side or on both (1 to 4
times slower), more channels or blocks of pixels for the stem, parts for 64 channels and more, and
Winograd's F(4x4,3x3) forward (Lavin and Gray 2016, arXiv:1509.09308), whose transforms, written as
sums or as products, cost XLA more than they save: 1.1 to 3.3 times slower from 8 x 8 x 64 to
7 x 7 x 512.
"""

from __future__ import annotations

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

PART = 16
"""Pictures in a part."""
NARROW = 64
"""So many channels of input no longer gain by parts."""
he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015, 'Delving Deep into Rectifiers', section 2.2, the backward case."""


class Conv(nnx.Module):
    """A `size` x `size` convolution, `size` odd, padded with zeros by half its size on every side.

    The kernel is (size,size,cin/groups,cout), as Flax has it, from He's normal distribution."""

    def __init__(
        self, cin: int, cout: int, size: int, stride: int, rngs: nnx.Rngs, groups: int = 1
    ):
        self.kernel = nnx.Param(he_normal(rngs.params(), (size, size, cin // groups, cout)))
        self.stride, self.groups = stride, groups

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout), rounded up."""
        return convolution(x, self.kernel.get_value(), self.stride, self.groups)


def convolution(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> Array:
    """A map (B,H,W,cin) under a kernel (n,n,cin/groups,cout), n odd, padded with n // 2 zeros.

    On a CPU, reverse mode only where it goes in parts: `jax.jvp` and `jax.jacfwd` do not go
    through it."""
    usual = partial(plain, stride=stride, groups=groups)
    if groups == 1 and kernel.shape[:2] == (1, 1):
        return lax.platform_dependent(x, kernel, cpu=partial(_product, stride), default=usual)
    if groups == 1 and kernel.shape[2] < NARROW and len(x) > PART:
        return lax.platform_dependent(x, kernel, cpu=partial(_narrow, stride), default=usual)
    return usual(x, kernel)


def plain(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> Array:
    """`convolution` as XLA has it."""
    pads = [(size // 2, size // 2) for size in kernel.shape[:2]]
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=axes, feature_group_count=groups
    )


def _product(stride: int, x: Array, kernel: Array) -> Array:
    x = x[:, ::stride, ::stride]
    rows = x.reshape(prod(x.shape[:3]), x.shape[3])
    return (rows @ kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[3])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow(stride: int, x: Array, kernel: Array) -> Array:
    return plain(x, kernel, stride)


def _forward(stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return plain(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (for_x,) = jax.vjp(lambda x: plain(x, kernel, stride), x)[1](gradient)
    for_kernel = jnp.zeros_like(kernel)
    for begin in range(0, len(x), PART):
        part = slice(begin, begin + PART)
        back = jax.vjp(lambda kernel, part=part: plain(x[part], kernel, stride), kernel)[1]
        for_kernel += back(gradient[part])[0]
    return for_x, for_kernel


_narrow.defvjp(_forward, _backward)
