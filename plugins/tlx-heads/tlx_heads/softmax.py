"""One class out of several: a linear layer and softmax cross-entropy.

The standard head of image classification. Everything it measures adds up over batches, the
confusion matrix included, so accuracy over a ragged test split is exact.
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
class Softmax:
    """Softmax classifier on `feature`; labels are class numbers (B,) int in 0..classes-1.

    Args:
        classes: how many classes.
        feature: name of the feature it reads; maps and tokens are averaged over positions.
        label_smoothing: share of the target that is spread evenly over all classes
            (Szegedy et al. 2016, arXiv:1512.00567, section 7); 0 trains on the labels as given.
        zero_init: start from equal probabilities instead of a LeCun-normal kernel. No gradient
            reaches the backbone in the first step then.
    """

    classes: int
    feature: str = "pooled"
    label_smoothing: float = 0.0
    zero_init: bool = False

    label_kind: ClassVar[LabelKind] = "class"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.classes < 2:
            raise ConfigError(
                f"A softmax head needs at least 2 classes, not {self.classes}: with fewer its "
                f"probability is always 1. Add a class, or use the regression head."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing is the share of the target spread over all classes, from 0 to "
                f"below 1, not {self.label_smoothing}."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The one feature it reads."""
        return (self.feature,)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """The best epoch has the highest accuracy."""
        return "accuracy", "max"

    def init(self, rng: Array, features: Features) -> Variables:
        """{"kernel": (D,classes), "bias": (classes,)}, no state."""
        feature = linear.vector(features, self.feature)
        return linear.init(rng, feature, self.classes, zero=self.zero_init)

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
        """Cross-entropy (B,) in nats. A label outside of 0..classes-1 gives NaN, which stops a
        run, except where `weight` is 0; it is never taken as another class. Raises DataError for
        labels that are no class numbers."""
        label = self._labels(outputs, batch)
        target = optax.smooth_labels(jax.nn.one_hot(label, self.classes), self.label_smoothing)
        loss = optax.softmax_cross_entropy(outputs, target)
        meant = (label >= 0) & (label < self.classes) | (batch.weight == 0)
        return jnp.where(meant, loss, jnp.nan)

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """`class` (B,) int, its `probability` (B,), and all `probabilities` (B,classes)."""
        probabilities = jax.nn.softmax(outputs)
        return {
            "class": probabilities.argmax(-1),
            "probability": probabilities.max(-1),
            "probabilities": probabilities,
        }

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """Weighted sums: `n`, `correct`, `loss`, and `confusion` (true class, predicted class)."""
        label = self._labels(outputs, batch)
        weight = batch.weight
        found = outputs.argmax(-1)
        true = jax.nn.one_hot(label, self.classes) * weight[:, None]
        return {
            "n": weight.sum(),
            "correct": (weight * (found == label)).sum(),
            "loss": (weight * self.loss(outputs, batch)).sum(),
            "confusion": true.T @ jax.nn.one_hot(found, self.classes),
        }

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """`accuracy`, `loss`, `balanced_accuracy` (mean recall over the classes that occur) and
        `worst_recall` (the recall of the class that is found least)."""
        n = float(totals["n"])
        if n == 0:
            raise DataError("There is nothing to report on: every example has weight 0.")
        confusion = np.asarray(totals["confusion"], np.float64)
        occurs = confusion.sum(1) > 0
        recall = np.diag(confusion)[occurs] / confusion.sum(1)[occurs]
        return {
            "accuracy": float(totals["correct"]) / n,
            "loss": float(totals["loss"]) / n,
            "balanced_accuracy": float(recall.mean()),
            "worst_recall": float(recall.min()),
        }

    def _labels(self, outputs: Array, batch: Batch) -> Array:
        label = jnp.asarray(batch.targets["label"])
        if label.shape != outputs.shape[:1] or not jnp.issubdtype(label.dtype, jnp.integer):
            raise DataError(
                f"A softmax head wants one class number per picture, {outputs.shape[:1]} integers; "
                f"the labels are {label.shape} {label.dtype}. Several labels per picture are the "
                f"multilabel head's, real numbers the regression head's."
            )
        return label
