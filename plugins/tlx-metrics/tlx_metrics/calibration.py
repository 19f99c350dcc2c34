"""Expected calibration error: how far confidence is from accuracy.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
equation 3, with M equal-width bins (0, 1/M], ..., (1 - 1/M, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Batch
from tlx_metrics.predictions import read_prediction


@final
@dataclass(frozen=True)
class CalibrationError:
    """Mean over examples of the gap between confidence and accuracy in their bin.

    Args:
        bins: of equal width between 0 and 1.
    """

    bins: int = 15
    better: ClassVar[Literal["max", "min"]] = "min"

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ConfigError(f"calibration_error: bins is {self.bins}, and has to be at least 1.")

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """The probability of the predicted class, and whether it is right, (B,) each."""
        predicted = read_prediction(predictions, "class", "calibration_error")
        return {
            "confidence": read_prediction(predictions, "probability", "calibration_error"),
            "right": predicted == batch.targets["label"],
        }

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """From 0 to 1."""
        confidence, right = rows["confidence"].astype(np.float64), rows["right"].astype(np.float64)
        number = np.clip(np.ceil(confidence * self.bins).astype(int) - 1, 0, self.bins - 1)
        gaps = np.bincount(number, right - confidence, self.bins)
        return float(np.abs(gaps).sum() / len(right))
