"""H-score: how much of the features' variance is variance between classes.

Bao et al. 2019, 'An Information-Theoretic Approach to Transferability in Task Transfer Learning';
with the covariance shrunk as in Ibrahim et al. 2021, 'Newer is not always better' (arXiv:
2110.06893), without which it grows with the number of features, whatever these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tlx.errors import ScoreError
from tlx_select.classes_there import classes_there, constant


@final
@dataclass(frozen=True)
class HScore:
    """tr(cov(f)⁺ cov(E[f|y])), between 0 and the number of classes minus 1.

    Args:
        shrinkage: cov(f) by Ledoit and Wolf (2004), and cov(E[f|y]) times 1 − their share; else
            the plain covariance and its pseudo-inverse.
    """

    shrinkage: bool = True

    def __call__(self, *, features: np.ndarray, labels: np.ndarray) -> float:
        """One number. Raises ScoreError for a single class and for constant features."""
        number, count = classes_there(labels)
        if constant(features):
            raise ScoreError("The features are the same for every picture.")
        centred = features - features.mean(0)
        shares = np.bincount(number) / len(number)
        means = np.eye(count)[number].T @ centred / np.bincount(number)[:, None]
        covariance, shrunk = centred.T @ centred / len(centred), 0.0
        if self.shrinkage:
            from sklearn.covariance import ledoit_wolf

            covariance, shrunk = ledoit_wolf(centred, assume_centered=True)
        if shrunk > 1e-9:  # then it has an inverse
            from scipy.linalg import solve

            turned = solve(covariance, means.T, assume_a="pos")
        else:
            turned = np.linalg.pinv(covariance, hermitian=True) @ means.T
        return float((1 - shrunk) * np.sum(shares * np.sum(means.T * turned, axis=0)))
