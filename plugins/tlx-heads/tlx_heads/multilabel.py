"""Any number of labels per picture: one yes-or-no question per class.

A linear layer and binary cross-entropy. Epochs are compared by micro F1: it adds up exactly over
batches, and unlike accuracy it is not flattered by the many labels that are absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from tlx.errors import ConfigError, DataError
from tlx.types import Batch, Features, LabelKind, Mode, Params, PyTree, State, Variables
from tlx_heads import linear


@final
@dataclass(frozen=True)
class Multilabel:
    """Independent labels on `feature`; labels are (B,classes), 1 where present, else 0.

    Args:
        classes: how many labels there are.
        feature: name of the feature it reads; maps and tokens are averaged over positions.
    """

    classes: int
    feature: str = "pooled"

    label_kind: ClassVar[LabelKind] = "multilabel"

    def __post_init__(self) -> None:
        """Refuse a head without outputs."""
        if self.classes < 1:
            raise ConfigError(f"A multilabel head needs at least 1 class, not {self.classes}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The one feature it reads."""
        return (self.feature,)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """The best epoch has the highest micro F1."""
        return "micro_f1", "max"

    def init(self, rng: Array, features: Features) -> Variables:
        """{"kernel": (D,classes), "bias": (classes,)}, no state."""
        return linear.init(rng, linear.vector(features, self.feature), self.classes)

    def apply(
        self,
        params: Params,
        state: State,
        features: Features,
        *,
        inputs: Mapping[str, PyTree],
        rng: Array,
        mode: Mode,
    ) -> tuple[Array, State]:
        """Logits (B,classes)."""
        return linear.apply(params, linear.vector(features, self.feature)), state

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Binary cross-entropy (B,) in nats, a mean over labels. A label that is neither 0 nor 1
        gives NaN, which stops a run, except where `weight` is 0. Raises DataError for labels of
        another shape."""
        label = self._labels(outputs, batch)
        loss = optax.sigmoid_binary_cross_entropy(outputs, label.astype(outputs.dtype)).mean(-1)
        meant = ((label == 0) | (label == 1)).all(-1) | (batch.weight == 0)
        return jnp.where(meant, loss, jnp.nan)

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """`labels` (B,classes) 0 or 1 (1 from probability 0.5 on) and `probabilities`."""
        return {"labels": (outputs >= 0).astype(int), "probabilities": jax.nn.sigmoid(outputs)}

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """Weighted sums: `n`, `loss`, `correct` (pictures with every label right), and per label
        `true_positive`, `false_positive`, `false_negative` (classes,)."""
        there = self._labels(outputs, batch) == 1
        found = outputs >= 0
        weight = batch.weight
        return {
            "n": weight.sum(),
            "loss": (weight * self.loss(outputs, batch)).sum(),
            "correct": (weight * (found == there).all(-1)).sum(),
            "true_positive": (weight[:, None] * (found & there)).sum(0),
            "false_positive": (weight[:, None] * (found & ~there)).sum(0),
            "false_negative": (weight[:, None] * (~found & there)).sum(0),
        }

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """`micro_f1` over all labels of all pictures, `macro_f1` (mean over labels, 0 for one
        that neither occurs nor is found), `accuracy` (pictures with every label right), `loss`."""
        n = float(totals["n"])
        if n == 0:
            raise DataError("There is nothing to report on: every example has weight 0.")
        hit = np.asarray(totals["true_positive"], np.float64)
        miss = np.asarray(totals["false_positive"], np.float64) + totals["false_negative"]
        return {
            "micro_f1": float(_f1(hit.sum(), miss.sum())),
            "macro_f1": float(_f1(hit, miss).mean()),
            "accuracy": float(totals["correct"]) / n,
            "loss": float(totals["loss"]) / n,
        }

    def _labels(self, outputs: Array, batch: Batch) -> Array:
        label = jnp.asarray(batch.targets["label"])
        if label.shape != outputs.shape:
            raise DataError(
                f"A multilabel head wants 0 or 1 for every class of every picture, "
                f"{outputs.shape}; the labels are {label.shape}. One class number per picture is "
                f"the softmax head's."
            )
        return label


def _f1(hit: Any, miss: Any) -> Any:
    """2 TP / (2 TP + FP + FN), and 0 for 0/0."""
    return 2 * hit / np.maximum(2 * hit + miss, 1e-30)
