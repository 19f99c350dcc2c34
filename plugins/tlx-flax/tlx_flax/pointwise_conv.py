"""A 1x1 convolution, on the CPU as the product of two matrices that it is.

XLA's CPU backend computes the weight gradient of a 1x1 convolution as a convolution whose window
is the whole map, 1.2 to 2.7 times slower than a matrix product; forward, the product is up to 1.9
times faster, most where a stride skips pixels (`benchmarks/convolutions.py`).
"""

from __future__ import annotations

from functools import partial

from flax import nnx
from jax import Array, lax


class PointwiseConv(nnx.Module):
    """A 1x1 convolution without bias that reads every `stride`-th pixel.

    The kernel is (1,1,cin,cout), as Flax has it."""

    def __init__(self, cin: int, cout: int, stride: int, init: nnx.Initializer, rngs: nnx.Rngs):
        self.kernel = nnx.Param(init(rngs.params(), (1, 1, cin, cout)))
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        """(B,H,W,cin) to (B,H/stride,W/stride,cout), rounded up."""
        return pointwise_conv(x, self.kernel.get_value(), self.stride)


def pointwise_conv(x: Array, kernel: Array, stride: int) -> Array:
    """A map (B,H,W,cin) under a kernel (1,1,cin,cout)."""

    def product(x: Array, kernel: Array) -> Array:
        x = x[:, ::stride, ::stride]
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)

    return lax.platform_dependent(x, kernel, cpu=product, default=partial(convolution, stride))


def convolution(stride: int, x: Array, kernel: Array) -> Array:
    """The same as XLA's convolution."""
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=axes)
