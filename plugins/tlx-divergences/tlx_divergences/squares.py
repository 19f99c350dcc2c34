"""Sums over every number of a tree of parameters, which all distances between weights share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import PyTree


def summed(each: Callable[[Array], Array], tree: PyTree) -> Array:
    """Σ each(x) over every number of every leaf, added up in float32 or better."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        total = total + jnp.sum(each(leaf.astype(jnp.promote_types(leaf.dtype, "float32"))))
    return total


def half_squares(tree: PyTree) -> Array:
    """½ Σ x² over every number of every leaf, added up in float32 or better."""
    return summed(jnp.square, tree) / 2
