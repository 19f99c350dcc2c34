"""What a picture is, by the labels of the pictures whose features are nearest.

The quickest test of features that were learnt without labels: nothing is trained.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

TEMPERATURE = 0.1
"""Of the votes, as in lightly's benchmarks; Wu et al. have 0.07."""


def nearest(features: Array, queries: Array, neighbours: int) -> tuple[Array, Array]:
    """For queries (M,D) the `neighbours` nearest of the features (N,D) by cosine, nearest first:
    (their similarities, their rows), both (M,min(neighbours,N))."""
    similar = _unit(queries) @ _unit(features).T
    return jax.lax.top_k(similar, min(neighbours, features.shape[0]))


def knn_classes(
    features: Array, labels: Array, queries: Array, *, classes: int, neighbours: int
) -> Array:
    """(M,) classes that the neighbours vote for, each with weight exp(cosine / 0.1) (Wu et al.
    2018, 'Unsupervised Feature Learning via Non-Parametric Instance Discrimination', section
    3.4)."""
    similar, rows = nearest(features, queries, neighbours)
    votes = jax.nn.one_hot(labels[rows], classes) * jnp.exp(similar / TEMPERATURE)[..., None]
    return votes.sum(1).argmax(-1)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
