"""Half the sum of squares of a tree of parameters, which all distances between weights share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import PyTree


def half_squares(tree: PyTree) -> Array:
    """½ Σ x² over every number of every leaf, added up in float32 or better."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        total = total + jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, "float32"))))
    return total / 2
