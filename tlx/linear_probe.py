"""How much a linear classifier reads from features: a logistic regression, solved to the bottom.

No learning rate and no seed, so that two sets of features are compared and not two trainings.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tlx.newton_cg import minimise


@partial(jax.jit, static_argnames="classes")
def linear_probe(features: Array, labels: Array, queries: Array, *, classes: int) -> Array:
    """(M,) classes of queries (M,D) by the logistic regression of features (N,D) on labels (N,).

    Features are standardised by the mean and deviation of (N,D); the objective is the mean cross
    entropy plus |W|² / 2N, which is scikit-learn's `LogisticRegression` with C = 1."""
    mean, deviation = features.mean(0), features.std(0)
    scale = jnp.where(deviation > 0, 1 / jnp.where(deviation > 0, deviation, 1), 0)
    x = (features - mean) * scale

    def penalised(params: Any) -> Array:
        logits = x @ params["kernel"] + params["bias"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss + jnp.sum(jnp.square(params["kernel"])) / (2 * x.shape[0])

    start = {"kernel": jnp.zeros((x.shape[1], classes)), "bias": jnp.zeros(classes)}
    found, _ = minimise(penalised, start, tolerance=1e-6)
    return ((queries - mean) * scale @ found["kernel"] + found["bias"]).argmax(-1)
