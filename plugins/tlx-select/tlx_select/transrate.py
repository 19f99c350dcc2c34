"""TransRate: how many more bits all features take than those of one class.

Huang et al. 2022, 'Frustratingly Easy Transferability Estimation' (arXiv:2106.09362):
the coding rate of lossy compression stands in for the mutual information of features and labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tlx_select.classes_there import classes_there


@final
@dataclass(frozen=True)
class TransRate:
    """R(f) − mean over classes of R(f_c) in nats, R = ½ log det(I + fᵀf / (n ε)), f centred over
    all pictures. It grows with the scale of the features, as in the paper.

    Args:
        epsilon: distortion that the coding allows.
    """

    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not self.epsilon > 0:
            raise ValueError(f"epsilon is above 0, not {self.epsilon}.")

    def __call__(self, *, features: np.ndarray, labels: np.ndarray) -> float:
        """One number. Raises ScoreError for a single class."""
        number, count = classes_there(labels)
        centred = features - features.mean(0)
        within = [self._rate(centred[number == k]) for k in range(count)]
        return self._rate(centred) - float(np.mean(within))

    def _rate(self, features: np.ndarray) -> float:
        """R; of whichever of fᵀf and ffᵀ is smaller, which have the same determinant here."""
        pictures, width = features.shape
        gram = features.T @ features if width < pictures else features @ features.T
        scaled = np.eye(len(gram)) + gram / (pictures * self.epsilon)
        return float(np.linalg.slogdet(scaled)[1]) / 2
