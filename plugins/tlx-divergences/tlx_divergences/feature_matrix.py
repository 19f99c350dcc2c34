"""A feature of a batch as one matrix, which divergences between spectra and similarities read."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def feature_matrix(value: Array) -> Array:
    """(B,...) as (B,D) in float32 or better: a row per example, everything else flattened."""
    return value.reshape(value.shape[0], -1).astype(jnp.promote_types(value.dtype, "float32"))
