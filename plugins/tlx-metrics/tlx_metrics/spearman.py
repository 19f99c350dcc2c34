"""Spearman's rank correlation: whether larger values are predicted for larger labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from jax import Array

from tlx.types import Batch
from tlx_metrics.predictions import read_prediction


@final
@dataclass(frozen=True)
class Spearman:
    """From -1 to 1, of the one value that a regression predicts. Predictions that are all the same
    rank nothing and have 0."""

    better: ClassVar[Literal["max", "min"]] = "max"

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """Label and value (B,) of each example."""
        value = read_prediction(predictions, "value", "spearman")
        return {"label": batch.targets["label"].reshape(value.shape), "value": value}

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """The correlation of the ranks, ties sharing theirs."""
        from scipy.stats import spearmanr

        label, value = rows["label"], rows["value"]
        if np.ptp(label) == 0 or np.ptp(value) == 0:
            return 0.0
        found: Any = spearmanr(label, value)
        return float(found.statistic)
