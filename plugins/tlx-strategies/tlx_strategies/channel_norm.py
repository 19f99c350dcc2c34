"""Norm over the channels of one position or token (layer norm, Ba et al. 2016, arXiv:1607.06450).

It knows no other position and no other picture, so a decoder with it has no running statistics and
says the same of a picture in any batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import Params

EPSILON = 1e-6


def init(channels: int) -> Params:
    """Scale 1 and bias 0 (channels,)."""
    return {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}


def apply(params: Params, x: Array) -> Array:
    """(...,C) to (...,C). The variance is that of the differences from the mean, which keeps its
    digits, and its sign, where the mean is large."""
    x = x - x.mean(-1, keepdims=True)
    spread = jnp.square(x).mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(spread + EPSILON) * params["scale"] + params["bias"]
