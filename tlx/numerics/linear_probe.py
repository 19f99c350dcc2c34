"""How much a linear classifier reads from features: a logistic regression, solved to the bottom.

No learning rate and no seed, so that two sets of features are compared and not two trainings.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tlx.numerics.newton_cg import minimise


class Fitted(NamedTuple):
    """A logistic regression on (x - mean) * scale: `kernel` (D,classes), `bias` (classes,)."""

    mean: Array
    scale: Array
    kernel: Array
    bias: Array


def fitted(features: Array, labels: Array, *, classes: int, weight: Array | None = None) -> Fitted:
    """The logistic regression of features (N,D) on labels (N,); `weight` (N,) says how much each
    example counts, 0 for not at all.

    Features are standardised by the mean and deviation of (N,D); the objective is the mean cross
    entropy plus |W|² / 2N, which is scikit-learn's `LogisticRegression` with C = 1."""
    share = jnp.ones(len(features), features.dtype) if weight is None else weight
    count = share.sum()
    share = share / count
    mean = share @ features
    deviation = jnp.sqrt(share @ jnp.square(features - mean))
    scale = jnp.where(deviation > 0, 1 / jnp.where(deviation > 0, deviation, 1), 0)
    x = (features - mean) * scale

    def penalised(params: Any) -> Array:
        logits = x @ params["kernel"] + params["bias"]
        loss = share @ optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return loss + jnp.sum(jnp.square(params["kernel"])) / (2 * count)

    start = {"kernel": jnp.zeros((x.shape[1], classes)), "bias": jnp.zeros(classes)}
    found, _ = minimise(penalised, start, tolerance=1e-6)
    return Fitted(mean, scale, found["kernel"], found["bias"])


def answers(probe: Fitted, queries: Array) -> Array:
    """(M,classes) logits of queries (M,D)."""
    return (queries - probe.mean) * probe.scale @ probe.kernel + probe.bias


@partial(jax.jit, static_argnames="classes")
def linear_probe(features: Array, labels: Array, queries: Array, *, classes: int) -> Array:
    """(M,) classes of queries (M,D) by the logistic regression of features (N,D) on labels (N,)."""
    return answers(fitted(features, labels, classes=classes), queries).argmax(-1)
