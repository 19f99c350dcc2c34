"""Half-samples: how much a number would differ on other pictures of the same kind.

Random halves without replacement, each class halved. The deviation of a number over halves is that
of the number on all pictures (the jackknife that leaves half out: Shao and Wu 1989, 'A general
theory for jackknife variance estimation'), as with the bootstrap; but no picture is
there twice, which would teach a nearest neighbour or a linear model the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Z = 1.96
"""Standard deviations on either side of a 95 % interval."""


def halves(labels: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """`count` random halves: sorted rows (about N/2,), half of each class, rounded at random, and
    at least one of it."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [np.sort(np.concatenate([_half(rows, rng) for rows in members])) for _ in range(count)]


def _half(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    many = max(1, (len(rows) + int(rng.integers(2))) // 2)
    return rng.permutation(rows)[:many]


def half_width(values: Sequence[float] | np.ndarray) -> float | None:
    """Half the width of the 95 % interval around a number whose values on halves these are; None
    where there are too few that are finite."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < max(2, len(values) / 2):
        return None
    return float(Z * known.std(ddof=1))
