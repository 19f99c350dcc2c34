"""One linear layer on one feature: what every head here answers with.

A vector is taken as it is; a map or tokens are averaged over their positions first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.model import pooled
from tlx.types import Features, Params, Variables


def vector(features: Features, name: str) -> Array:
    """Feature `name` as (B,D). Raises ConfigError where there is no such feature."""
    if name not in features:
        raise ConfigError(
            f"The head reads the feature {name!r}, which this backbone does not have."
            f"{did_you_mean(name, features)} Features: {listed(features)}. "
            f"Set the head's `feature` to one of them."
        )
    return pooled(features[name])


def init(rng: Array, feature: Array, outputs: int, *, zero: bool = False) -> Variables:
    """{"kernel": (D,outputs), "bias": (outputs,)} for a feature (B,D): LeCun-normal, or zeros."""
    shape = (feature.shape[-1], outputs)
    normal = jax.nn.initializers.lecun_normal()
    kernel = jnp.zeros(shape) if zero else normal(rng, shape)
    return Variables({"kernel": kernel, "bias": jnp.zeros(outputs)}, {})


def apply(params: Params, feature: Array) -> Array:
    """(B,D) -> (B,outputs)."""
    return feature @ params["kernel"] + params["bias"]
