"""The classes that there are pictures of, which are all that a score can tell apart."""

from __future__ import annotations

import numpy as np

from tlx.errors import ScoreError


def classes_there(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels (N,) numbered anew without gaps, and how many classes occur. ScoreError for one."""
    names, number = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ScoreError("It compares classes, and all pictures are of one.")
    return number, len(names)


def constant(features: np.ndarray) -> bool:
    """Whether the features (N,D) are the same for every picture."""
    return bool(np.all(np.ptp(features, axis=0) == 0))
