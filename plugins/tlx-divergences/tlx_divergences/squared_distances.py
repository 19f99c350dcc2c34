"""Squared distances of all pairs of points, from their differences.

The usual way by one product of matrices, x² + y² − 2xy, loses what a kernel or a plan lives on: two
points that lie close together, far from the others, differ by less than the rounding of their
squares. There is no square root, so the gradient is finite where two points are equal.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

BLOCK = 2**21
"""Differences that are computed at a time; one row after another keeps an accelerator waiting."""


@jax.custom_vjp
def squared_distances(x: Array, y: Array) -> Array:
    """(n,m) of ‖x_i − y_j‖², 0 or more and exactly 0 for equal points, for (n,C) and (m,C). A
    few points of `x` after others: (n,m,C) is never made."""
    at_once = max(1, BLOCK // max(1, y.size))
    return jax.lax.map(lambda one: jnp.sum(jnp.square(one - y), -1), x, batch_size=at_once)


def _forwards(x: Array, y: Array) -> tuple[Array, tuple[Array, Array]]:
    return squared_distances(x, y), (x, y)


def _backwards(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    """2 Σ_j s_ij (x_i − y_j) and its counterpart, as products of matrices: of first powers, whose
    rounding does no harm."""
    x, y = kept
    to_x = slope.sum(1)[:, None] * x - jnp.matmul(slope, y, precision="highest")
    to_y = slope.sum(0)[:, None] * y - jnp.matmul(slope.T, x, precision="highest")
    return 2 * to_x, 2 * to_y


squared_distances.defvjp(_forwards, _backwards)
