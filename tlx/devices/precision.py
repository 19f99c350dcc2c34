"""Half the digits where they do not matter: bfloat16 arithmetic with float32 parameters.

A policy of mixed precision (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1; Kalamkar et
al. 2019, arXiv:1905.12322): the network's body computes on parameters and pictures that are cast
for the pass, and all that is learnt, remembered, compared or summed stays float32. bfloat16 has the
exponents of float32, so that no loss needs to be scaled.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tlx.types import Precision, PyTree

DTYPE: Mapping[Precision, DTypeLike] = {"float32": jnp.float32, "bf16": jnp.bfloat16}


def lowered(tree: PyTree, precision: Precision) -> PyTree:
    """What a body computes on: its floating leaves cast, which the gradient goes back through."""
    return tree if precision == "float32" else _cast(tree, DTYPE[precision])


def raised(tree: PyTree, precision: Precision) -> PyTree:
    """What a body said, in float32."""
    return tree if precision == "float32" else _cast(tree, jnp.float32)


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
