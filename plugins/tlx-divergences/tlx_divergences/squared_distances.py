"""Squared distances of all pairs of points, as one product of matrices.

There is no square root, so the gradient is finite where two points are equal.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def squared_distances(x: Array, y: Array) -> Array:
    """(n,m) of ‖x_i − y_j‖², 0 or more, for (n,C) and (m,C); (n,m,C) is never made.

    The product is exact to float32 on every device. Centre both by the same vector first: far from
    the origin the squares cancel."""
    products = jnp.matmul(x, y.T, precision="highest")
    squares = jnp.sum(x * x, 1)[:, None] + jnp.sum(y * y, 1)[None, :]
    return jnp.maximum(squares - 2 * products, 0)
