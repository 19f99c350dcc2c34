"""A few examples of each class, spread evenly over a split: whether data are what they seem.

A look at a few of every class shows what no number does: labels that are shifted by one, channels
in another order, texts in another language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlx.contracts.input import Ports
from tlx.data.shown import show_examples
from tlx.data.splits import Subset, are_classes
from tlx.errors import TlxError
from tlx.types import DataInfo

EACH, ROWS = 8, 40
"""Examples of a class; classes that are drawn on a sheet."""
FIRST, FEW = 10, 6
"""Classes of a report, and examples of each."""


def examples_by_class(
    part: Subset, ports: Ports, info: DataInfo
) -> dict[str, list[np.ndarray | str]]:
    """A few examples of each of the first classes, as pixels or texts; what cannot be read is left
    out."""
    found: dict[str, list[np.ndarray | str]] = {}
    for name, places in spread_by_class(part, info.classes)[:FIRST]:
        for place in places[:FEW]:
            try:
                found.setdefault(name, []).extend(show_examples(part, [place], ports, info))
            except (TlxError, OSError, ValueError):
                continue
    return found


def spread_by_class(part: Subset, classes: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Name of a class -> positions of a few of its examples, for the first `ROWS` classes; without
    classes of the whole split."""
    labels = part.labels
    if classes and labels.ndim == 2 and labels.shape[1] == len(classes):
        several = ((name, np.flatnonzero(labels[:, k])) for k, name in enumerate(classes[:ROWS]))
        return [(name, _spread(places)) for name, places in several]
    if not are_classes(labels, tuple(classes)):
        return [(part.name, _spread(np.arange(len(part))))]
    found = ((name, np.flatnonzero(labels == k)) for k, name in enumerate(classes[:ROWS]))
    return [(name, _spread(places)) for name, places in found]


def _spread(places: np.ndarray) -> list[int]:
    at = np.linspace(0, len(places) - 1, min(EACH, len(places))).astype(int)
    return [int(place) for place in places[at]]
