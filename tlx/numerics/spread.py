"""Whether features differ from picture to picture: their deviation and their effective rank.

Both need no labels. Features that have collapsed to a point have no deviation, those that have
collapsed to a line have rank 1, whatever the loss says.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def feature_std(features: Array) -> Array:
    """Deviation of normalised features (N,D) over pictures: the mean over dimensions of the
    standard deviation of z / |z|, times the root of D. 0 for the same feature everywhere, 1 for
    features that point in all directions alike (Chen and He 2021, SimSiam, arXiv:2011.10566,
    section 4.1, where it is not multiplied by the root of D)."""
    unit = features / jnp.maximum(jnp.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit.std(0).mean() * jnp.sqrt(features.shape[1])


def rankme(features: Array) -> Array:
    """Effective rank of features (N,D), 1 to min(N,D): the exponential of the entropy of the
    singular values' shares (Garrido et al. 2023, RankMe, arXiv:2210.02885, section 3.1)."""
    values = jnp.linalg.svd(features, compute_uv=False)
    share = values / jnp.maximum(values.sum(), 1e-12) + 1e-7
    return jnp.exp(-jnp.sum(share * jnp.log(share)))
