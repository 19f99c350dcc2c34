"""Mean and variance of each dimension over a batch, of which padding is no part.

Statistics of a batch couple its examples: one row that stands for no picture would change what is
said of all others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Moments(NamedTuple):
    """Of rows with D dimensions: how many there are (), at least 1; their mean (D,); `centred`
    (...,D), the rows minus their mean, 0 for padding."""

    number: Array
    mean: Array
    centred: Array

    @property
    def var(self) -> Array:
        """(D,) the biased variance: the mean square."""
        return jnp.square(self.centred).reshape(-1, self.mean.size).sum(0) / self.number

    @property
    def unbiased(self) -> Array:
        """(D,) the variance with one degree of freedom less; 0 for a single row."""
        return self.var * self.number / jnp.maximum(self.number - 1, 1)


def moments(x: Array, weight: Array) -> Moments:
    """Of (...,D) over all leading axes. Rows whose weight is 0 do not count; `weight` has the last
    leading axis or broadcasts to all."""
    real = jnp.broadcast_to(weight > 0, x.shape[:-1])[..., None]
    axes = tuple(range(x.ndim - 1))
    count = jnp.maximum(real.sum(), 1).astype(x.dtype)
    mean = jnp.where(real, x, 0).sum(axes) / count
    return Moments(count, mean, jnp.where(real, x - mean, 0))
