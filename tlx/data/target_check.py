"""What the targets of a regression are, and what about them is wrong or may be.

A target that is far from all others is often a word for 'missing' (-999) or a slip of units, and
squares: a few of them decide a mean, a spread and a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from tlx.data.splits import Subset

FAR = 8.0
"""Robust deviations from the median; none of 10^14 normal numbers is as far."""


class Target(NamedTuple):
    """What one target is in a split, in its own units."""

    mean: float
    std: float
    least: float
    most: float


Found = tuple[Literal["error", "warning"], str, tuple[str, ...]]
"""How grave it is, a sentence, and the files that it is about."""


def are_targets(labels: np.ndarray, classes: tuple[str, ...]) -> bool:
    """Whether labels (N,) or (N,K) are numbers to be predicted."""
    return not classes and labels.ndim in (1, 2) and np.issubdtype(labels.dtype, np.number)


def target_names(labels: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """What the columns of labels are called."""
    count = 1 if labels.ndim == 1 else labels.shape[1]
    if len(names) == count:
        return names
    return ("target",) if count == 1 else tuple(f"target {n}" for n in range(1, count + 1))


def summarise_targets(
    parts: Mapping[str, Subset], names: tuple[str, ...]
) -> dict[str, dict[str, Target]]:
    """Name of a target -> split -> what it is there; splits without examples are left out."""
    found: dict[str, dict[str, Target]] = {}
    for split, part in parts.items():
        columns = part.labels.reshape(len(part), -1).astype(np.float64)
        for name, x in zip(target_names(part.labels, names), columns.T, strict=True):
            if len(x):
                own = Target(float(x.mean()), float(x.std()), float(x.min()), float(x.max()))
                found.setdefault(name, {})[split] = own
    return found


def check_targets(parts: Mapping[str, Subset], names: tuple[str, ...]) -> Iterator[Found]:
    """What is wrong with the targets of a run's splits."""
    train = parts["train"].labels
    for column, name in enumerate(target_names(train, names)):
        x = train.reshape(len(train), -1)[:, column].astype(np.float64)
        if len(x) > 1 and np.ptp(x) == 0:
            text = f"Every {name} that is trained on is {x[0]:g}, so nothing can be learnt of it."
            yield "error", text, ()
            continue
        middle = np.median(x)
        spread = 1.4826 * np.median(np.abs(x - middle)) or x.std()
        far = [
            (part.called(int(i)), float(values[i]))
            for part in parts.values()
            for values in [part.labels.reshape(len(part), -1)[:, column].astype(np.float64)]
            for i in np.flatnonzero(np.abs(values - middle) > FAR * spread)
        ]
        if far and len(far) < sum(map(len, parts.values())) / 10:
            text = (
                f"{len(far):,} of the {name}s {'is' if len(far) == 1 else 'are'} far from all "
                f"others, whose median is {middle:g}; such numbers may stand for a missing one, or "
                f"be in other units."
            )
            yield "warning", text, tuple(f"{file} ({value:g})" for file, value in far)
