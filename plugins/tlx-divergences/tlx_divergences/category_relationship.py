"""Category relationship p(y_s | y_t): which of the source's classes a target class looks like.

Estimated from the source's own probabilities for the target's labelled pictures, in the two ways
of Co-Tuning (You, Kou, Long and Wang, NeurIPS 2020): as an average, or by learning
the easier direction p(y_t | y_s) and turning it round with Bayes' rule. A target class without a
picture has the source's marginal, as if nothing were known of it.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from optax.losses import softmax_cross_entropy_with_integer_labels as cross_entropy

from tlx.numerics.newton_cg import minimise

FOLDS = 5
STRENGTHS = (1.0, 10.0, 0.1, 1e2, 1e-2, 1e3, 1e-3, 1e4)
"""What a logistic regression's loss may weigh against its penalty; a tie goes to the first."""
PULL = 1e-4
"""What leaving the scale at 1 weighs against the likelihood, for where that does not care."""


@partial(jax.jit, static_argnames="classes")
def direct_relationship(probabilities: Array, labels: Array, classes: int) -> Array:
    """(Ct,Cs): the source's probabilities (N,Cs), averaged over the pictures of each label (N,)."""
    member = jax.nn.one_hot(labels, classes, dtype=probabilities.dtype)
    count = member.sum(0)[:, None]
    with jax.default_matmul_precision("highest"):
        average = member.T @ probabilities / jnp.maximum(count, 1)
    return jnp.where(count > 0, average, probabilities.mean(0))


@partial(jax.jit, static_argnames="classes")
def reverse_relationship(probabilities: Array, labels: Array, classes: int) -> Array:
    """(Ct,Cs): p(y_t | y_s) p(y_s) over the sum of that over y_s.

    p(y_t | y_s) is the calibrated softmax of a multinomial logistic regression from the source's
    probabilities (N,Cs) to the labels (N,), at the corner of the simplex where the source is sure
    of y_s; p(y_s) is the mean of the probabilities. Where the authors' code takes the penalty of
    the best accuracy on the validation split and calibrates there, this takes the penalty and the
    scale of the best likelihood of pictures left out in turn: their probabilities are what counts,
    and validation pictures stay unseen.
    """
    everyone = jnp.arange(len(labels))
    held = _fold(labels, classes)

    def tried(strength: Array) -> tuple[Array, Array, Array]:
        def fitted(fold: Array) -> Array:
            rest = (held != fold).astype(probabilities.dtype)
            return logistic_regression(probabilities, labels, classes, strength, rest)

        kernels = lax.map(fitted, jnp.arange(FOLDS + 1))  # the last leaves nobody out
        logits = jnp.einsum("ns,fst->fnt", probabilities, kernels)[held, everyone]
        scale = calibrating_scale(logits, labels)
        return cross_entropy(scale * logits, labels).mean(), scale, kernels[FOLDS]

    with jax.default_matmul_precision("highest"):
        losses, scales, kernels = lax.map(tried, jnp.asarray(STRENGTHS, probabilities.dtype))
    best = jnp.argmin(losses)
    marginal = probabilities.mean(0)
    log_target = jax.nn.log_softmax(scales[best] * kernels[best])
    relationship = jax.nn.softmax(log_target.T + jnp.log(marginal))
    seen = jnp.bincount(labels, length=classes)[:, None] > 0
    return jnp.where(seen, relationship, marginal)


def logistic_regression(
    x: Array, labels: Array, classes: int, strength: Array, weight: Array
) -> Array:
    """The kernel W (D,classes) of least ½ ‖W‖² + strength · Σ_n weight_n CE(x_n W, y_n), without
    a bias, for x (N,D), labels (N,) and weight (N,)."""
    total = jnp.maximum(weight.sum(), 1)

    def loss(kernel: Array) -> Array:
        fit = jnp.sum(weight * cross_entropy(x @ kernel, labels)) / total
        return fit + jnp.sum(jnp.square(kernel)) / (2 * strength * total)

    return minimise(loss, jnp.zeros((x.shape[1], classes), x.dtype))[0]


def calibrating_scale(logits: Array, labels: Array) -> Array:
    """The factor, 0 or more, under which logits (N,C) give the labels (N,) the highest likelihood
    (temperature scaling: Guo et al. 2017, arXiv:1706.04599, section 4.2)."""

    def loss(scale: Array) -> Array:
        return cross_entropy(scale * logits, labels).mean() + PULL * jnp.square(scale - 1)

    return jnp.maximum(minimise(loss, jnp.ones((), logits.dtype))[0], 0)


def _fold(labels: Array, classes: int) -> Array:
    """(N,) 0..FOLDS-1, going round among the pictures of every class."""
    member = jax.nn.one_hot(labels, classes, dtype=int)
    number = jnp.sum(jnp.cumsum(member, axis=0) * member, axis=1) - 1
    return number % FOLDS
