"""Probe: the cross-validated accuracy of a logistic regression on the source's features.

What training a head alone would reach, estimated without touching a test split. The solver is
exact and has no seed (`tlx.numerics.linear_probe`), so that sources are compared and not trainings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.numerics.linear_probe import answers, fitted
from tlx_select.canonical_order import canonical_order
from tlx_select.classes_there import classes_there


@final
@dataclass(frozen=True)
class Probe:
    """Accuracy over the folds, 0..1; the terms (N,) are 1 where a picture's label was found by
    the regression that did not see it. Penalty and scaling are those of scikit-learn's
    `LogisticRegression` with C = 1 on standardised features.

    Args:
        folds: parts of the pictures, each class spread evenly over them.
    """

    folds: int = 5

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.folds < 2:
            raise ValueError(f"folds is 2 or more, not {self.folds}.")

    def __call__(self, *, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The terms. Raises ScoreError for a single class."""
        number, count = classes_there(labels)
        folds = min(self.folds, len(features))
        fold = folds_of(features, number, folds)
        centred = features - features.mean(0)  # float32 is enough of what is left
        scaled = centred / np.maximum(np.abs(centred).max(), np.finfo(np.float32).tiny)
        found = _held_out(
            jnp.asarray(scaled, jnp.float32), jnp.asarray(number), jnp.asarray(fold), count, folds
        )
        return np.asarray(found == number, np.float64)


def folds_of(features: np.ndarray, number: np.ndarray, folds: int) -> np.ndarray:
    """(N,) the fold of each picture: every class is dealt out in turn. Neither the order of the
    pictures nor the numbers of the classes matter."""
    order = canonical_order(features)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = np.full(number.max() + 1, len(order))
    np.minimum.at(first, number, place)
    fold = np.empty(len(order), np.int64)
    fold[np.lexsort((place, first[number]))] = np.arange(len(order)) % folds
    return fold


@partial(jax.jit, static_argnums=(3, 4))
def _held_out(features: Array, labels: Array, fold: Array, classes: int, folds: int) -> Array:
    """(N,) what the regression on all other folds says of each picture."""

    def without(held: Array) -> Array:
        weight = (fold != held).astype(features.dtype)
        probe = fitted(features, labels, classes=classes, weight=weight)
        return answers(probe, features).argmax(-1)

    found = jax.lax.map(without, jnp.arange(folds))
    return found[fold, jnp.arange(len(fold))]
