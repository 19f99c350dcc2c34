"""How well probabilities rank the examples of a class before all others: AUROC, average precision.

Of several classes each is held against the rest, and the mean is over those that have examples on
both sides: of the others neither is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Batch
from tlx_metrics.predictions import read_prediction


@final
@dataclass(frozen=True)
class AUROC:
    """Area under the receiver operating characteristic, one class against the rest, mean over
    classes; 0.5 is chance."""

    better: ClassVar[Literal["max", "min"]] = "max"

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """Labels and probabilities (B,classes) of each example."""
        return _label_and_probabilities(predictions, batch, "auroc")

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """From 0 to 1."""
        from sklearn.metrics import roc_auc_score

        return _mean_over_classes(roc_auc_score, rows, "auroc")


@final
@dataclass(frozen=True)
class AveragePrecision:
    """Precision averaged over the recalls that are reached, one class against the rest, mean over
    classes."""

    better: ClassVar[Literal["max", "min"]] = "max"

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """Labels and probabilities (B,classes) of each example."""
        return _label_and_probabilities(predictions, batch, "average_precision")

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """From 0 to 1."""
        from sklearn.metrics import average_precision_score

        return _mean_over_classes(average_precision_score, rows, "average_precision")


def _label_and_probabilities(
    predictions: Mapping[str, Any], batch: Batch, metric: str
) -> Mapping[str, Array]:
    return {
        "label": batch.targets["label"],
        "probabilities": read_prediction(predictions, "probabilities", metric),
    }


def _mean_over_classes(
    score: Callable[[np.ndarray, np.ndarray], Any], rows: Mapping[str, np.ndarray], metric: str
) -> float:
    label, probabilities = rows["label"], rows["probabilities"]
    there = label > 0 if label.ndim == 2 else label[:, None] == np.arange(probabilities.shape[1])
    defined = np.flatnonzero(there.any(0) & ~there.all(0))
    if not len(defined):
        raise ConfigError(
            f"{metric!r} compares the examples of a class with all others, and no class of the "
            f"{len(label)} examples has both."
        )
    return float(np.mean([score(there[:, k], probabilities[:, k]) for k in defined]))
