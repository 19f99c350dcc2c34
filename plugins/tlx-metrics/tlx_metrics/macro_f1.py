"""Macro-F1: the F1 of every class, each counting alike however many examples it has."""

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
class MacroF1:
    """Mean over the classes that are in the labels or among the predictions; of labels that are
    several, over all of them. A class that is never predicted has 0."""

    better: ClassVar[Literal["max", "min"]] = "max"

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """The label and the prediction of each example, (B,) classes or (B,classes) 0 or 1."""
        name = "labels" if "labels" in predictions else "class"
        return {
            "label": batch.targets["label"],
            "predicted": read_prediction(predictions, name, "macro_f1"),
        }

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """From 0 to 1."""
        from sklearn.metrics import f1_score

        label, predicted = rows["label"].astype(int), rows["predicted"].astype(int)
        never: Any = 0.0  # its stubs know a word alone
        return float(f1_score(label, predicted, average="macro", zero_division=never))
