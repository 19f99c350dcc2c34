"""A number that cannot be below 0, but for rounding.

A difference of large terms, or an iteration that ends early, may come out a little below what it
stands for.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def not_below_zero(value: Array) -> Array:
    """`value`, or 0 where it is less; the gradient is that of `value` in either case, so that it
    goes on saying where to go."""
    return value + jax.lax.stop_gradient(jnp.maximum(value, 0) - value)
