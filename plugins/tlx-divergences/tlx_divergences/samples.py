"""Two samples of one feature: a batch of the labelled data and one of the unlabelled stream.

What all divergences between domains start from: each example is one vector, and nothing depends
on the order of the examples or on which of one batch stands beside which of the other.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.model import pooled
from tlx.types import Features
from tlx_divergences.named import feature


def samples(
    features: Features, domain_features: Features, name: str, divergence: str, least: int = 1
) -> tuple[Array, Array]:
    """(n,C) and (m,C) in float32 or better: the vectors of the feature `name` in both batches.

    A map (B,h,w,C) or tokens (B,T,C) are averaged over their positions first. Raises ConfigError
    for a feature that is missing or has no channels, where the channels differ, and where a batch
    holds fewer than `least` examples."""
    here = _vectors(feature(features, name, divergence), name, divergence)
    there = _vectors(feature(domain_features, name, divergence), name, divergence)
    if here.shape[1] != there.shape[1]:
        raise ConfigError(
            f"{divergence} compares {name!r} channel by channel, and it has {here.shape[1]} "
            f"channels here and {there.shape[1]} in the [domain] batch. Both batches must go "
            f"through one backbone."
        )
    if min(len(here), len(there)) < least:
        raise ConfigError(
            f"{divergence} needs {least} examples or more in either batch; there are {len(here)} "
            f"here and {len(there)} in the [domain] batch. Raise batch_size."
        )
    return here, there


def _vectors(values: Array, name: str, divergence: str) -> Array:
    values = jnp.asarray(values)
    if values.ndim < 2:
        raise ConfigError(
            f"{divergence} compares {name!r} as one vector an example, (B,...,C), and it is "
            f"{values.shape}."
        )
    return pooled(values.astype(jnp.promote_types(values.dtype, "float32")))
