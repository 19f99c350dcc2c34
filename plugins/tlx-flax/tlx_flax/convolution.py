"""Convolutions without bias, and what XLA's CPU backend does badly done otherwise there.

Three things were measured to help (jax 0.10.2, two cores; `benchmarks/convolutions.py`):
a 1x1 convolution as the product of two matrices that it is, 1.2 to 2.8 times faster in the weight
gradient and up to 1.3 times forward (the input's gradient is twice as fast with a stride, and half
as fast for 2048 channels of 7 x 7); and the weight gradient of few channels in parts of 16
pictures, whose transposed copies stay in the cache: 1.3 to 1.7 times faster; and a map that lies
under every window whole as a product for each pixel of the result. XLA needs thirty times as long
for 512 channels of 2 x 2 as of 3 x 3: 32 pictures take 830 ms of one core and 1,680 with gradients,
as products 13 and 24. Of a convolution in groups (512 channels in 32) the gradient is a hundred
times faster so, also for 3 x 3.
What was no gain: 3 x 3 maps as products without groups (1.3 to 2 times slower), the weight
gradient as products of maps shifted on one side or on both (1 to 4
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
    size = kernel.shape[0]
    if size > 1 and max(x.shape[1:3]) <= (size if groups > 1 else size // 2 + 1):
        small = partial(_small, stride, groups)
        return lax.platform_dependent(x, kernel, cpu=small, default=usual)
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


def _small(stride: int, groups: int, x: Array, kernel: Array) -> Array:
    """A map no larger than the kernel: for every pixel of the result a product of what lies under
    the window and of the part of the kernel that lies on the map."""
    count, height, width, _ = x.shape

    def pixel(row: int, column: int) -> Array:
        rows, above = _overlap(row * stride, height, kernel.shape[0])
        columns, left = _overlap(column * stride, width, kernel.shape[1])
        seen, part = x[:, rows, columns], kernel[above, left]
        if groups == 1:
            return seen.reshape(count, -1) @ part.reshape(-1, kernel.shape[3])
        seen = seen.reshape(count, -1, groups, kernel.shape[2])
        part = part.reshape(-1, kernel.shape[2], groups, kernel.shape[3] // groups)
        return jnp.einsum("bpgi,pigo->bgo", seen, part).reshape(count, -1)

    made = [
        [pixel(row, column) for column in range(-(-width // stride))]
        for row in range(-(-height // stride))
    ]
    return jnp.stack([jnp.stack(row, 1) for row in made], 1)


def _overlap(at: int, length: int, size: int) -> tuple[slice, slice]:
    """Along one axis, what a window of `size` around the pixel `at` sees of a map, and with which
    part of the kernel."""
    first = at - size // 2
    begin, end = max(0, first), min(length, first + size)
    return slice(begin, end), slice(begin - first, end - first)


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
