"""Max-pooling of maps with a gradient that is cheap on every backend.

XLA's own gradient scatters into windows one by one, which is slow on a CPU. Here the gradient is
gathered: pixels are split by their remainder modulo the stride, and each window position adds
its share to one of these phases as a whole array. Reverse mode and forward over reverse work;
forward mode alone (`jax.jvp`, `jax.jacfwd`) does not.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax


def _maxima(x: Array, window: int, stride: int, padding: int) -> Array:
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    # A Python number: from an array JAX does not recognise the maximum, nor differentiate it.
    sizes, steps = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, steps, pads)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, window: int, stride: int, padding: int) -> Array:
    """Maxima over `window` x `window` pixels of a floating (B,H,W,C) map, padded with -inf.

    A side of n pixels becomes (n + 2 * padding - window) // stride + 1, as in PyTorch. Of equal
    maxima in a window the first in reading order takes the whole gradient, as in PyTorch."""
    return _maxima(x, window, stride, padding)


def _forward(x: Array, window: int, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    # Not max_pool itself: this is what a second derivative goes through.
    y = _maxima(x, window, stride, padding)
    return y, (x, y)


def _backward(
    window: int, stride: int, padding: int, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    x, y = saved
    batch, height, width, channels = x.shape
    rows, columns = y.shape[1:3]
    # A window reaches over `reach` blocks of stride x stride pixels on either axis.
    reach = -(-window // stride)
    tall, wide = rows + reach - 1, columns + reach - 1
    # Widths to whole blocks; negative ones cut off pixels that no window reads.
    below, right = tall * stride - height - padding, wide * stride - width - padding
    lowest = jnp.asarray(-jnp.inf, x.dtype)
    blocks = lax.pad(x, lowest, ((0, 0, 0), (padding, below, 0), (padding, right, 0), (0, 0, 0)))
    blocks = blocks.reshape(batch, tall, stride, wide, stride, channels)
    phases = [[jnp.zeros((), x.dtype)] * stride for _ in range(stride)]
    taken = jnp.zeros(y.shape, bool)
    for i in range(window):
        for j in range(window):
            (down, p), (along, q) = divmod(i, stride), divmod(j, stride)
            pixels = blocks[:, down : down + rows, p, along : along + columns, q]
            here = (pixels == y) & ~taken
            taken = taken | here
            share = jnp.where(here, gradient, 0)
            ends = ((down, reach - 1 - down), (along, reach - 1 - along))
            phases[p][q] += jnp.pad(share, ((0, 0), *ends, (0, 0)))
    shape = (batch, tall, wide, channels)
    whole = jnp.stack(
        [jnp.stack([jnp.broadcast_to(q, shape) for q in row], 3) for row in phases], 2
    ).reshape(batch, tall * stride, wide * stride, channels)
    zero = jnp.zeros((), x.dtype)
    back = ((0, 0, 0), (-padding, -below, 0), (-padding, -right, 0), (0, 0, 0))
    return (lax.pad(whole, zero, back),)


max_pool.defvjp(_forward, _backward)
