"""What is logged of some steps: the means of their metrics, and a stop where one is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx.errors import DivergedError
from tlx.protocols import Head


def logged(
    found: Sequence[Mapping[str, Any]], head: Head | None, *, until: int, advice: str
) -> dict[str, float]:
    """The metrics of the steps up to `until`, each entry (K,) for K of them: their means, and what
    the head reports of its summed measures. Raises DivergedError for a mean that is not finite;
    `advice` is what the sentence ends with."""
    means = {
        name: float(np.mean([entry[name] for entry in found]))
        for name in found[0]
        if name != "measure"
    }
    for name, value in means.items():
        if not np.isfinite(value):
            part = "task loss" if name in ("task", "loss") else name
            first = until - len(found) + 1
            raise DivergedError(f"The {part} is {value} between step {first} and {until}. {advice}")
    if head is not None and "measure" in found[0]:
        totals = jax.tree.map(
            lambda *leaves: np.sum(np.concatenate(leaves), axis=0),
            *[entry["measure"] for entry in found],
        )
        name, report = head.selection[0], head.report(totals)
        means |= {name: report[name]} if name in report else {}
    return means


def cut(found: Mapping[str, Any], every: int, *, rest: bool) -> tuple[list[Any], list[Any]]:
    """(what is logged, `every` steps at a time; what waits for more steps) of the metrics of some
    steps; with `rest` nothing waits."""
    pieces = [
        jax.tree.map(lambda leaf, first=first: leaf[first : first + every], found)
        for first in range(0, len(found["loss"]), every)
    ]
    whole = rest or len(pieces[-1]["loss"]) == every
    return (pieces, []) if whole else (pieces[:-1], pieces[-1:])
