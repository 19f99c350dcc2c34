"""kNN: how often a picture's nearest neighbours in the source's features say what it is.

Every picture is asked for by all the others. Votes are weighted as in Wu et al. 2018,
'Unsupervised Feature Learning via Non-Parametric Instance Discrimination', section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tlx.numerics.knn import TEMPERATURE
from tlx_select.classes_there import classes_there

ROWS = 1024
"""Pictures that are compared with all others at a time."""


@final
@dataclass(frozen=True)
class KNN:
    """Accuracy of leaving one out, 0..1; the terms (N,) are 1 where the neighbours are right.

    Args:
        neighbours: how many vote, by cosine, each with weight exp(cosine / 0.1).
    """

    neighbours: int = 20

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.neighbours < 1:
            raise ValueError(f"neighbours is 1 or more, not {self.neighbours}.")

    def __call__(self, *, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The terms. Raises ScoreError for a single class."""
        number, count = classes_there(labels)
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        asked = min(self.neighbours, len(features) - 1)
        right = np.empty(len(features))
        for start in range(0, len(features), ROWS):
            mine = np.arange(start, min(start + ROWS, len(features)))
            similar = unit[mine] @ unit.T
            similar[np.arange(len(mine)), mine] = -np.inf
            nearest = np.argpartition(-similar, asked - 1, axis=1)[:, :asked]
            weight = np.exp(np.take_along_axis(similar, nearest, 1) / TEMPERATURE)
            votes = np.einsum("bk,bkc->bc", weight, np.eye(count)[number[nearest]])
            right[mine] = votes.argmax(1) == number[mine]
        return right
