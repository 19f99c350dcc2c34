"""What is logged of some steps: the means of their metrics, without updates that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.devices.not_finite import FACTOR, TOTAL
from tlx.evaluate import reported
from tlx.planning.optimizer import schedule
from tlx.planning.plan import Planned
from tlx.protocols import Head
from tlx.run_file.run_config import OptimizerConfig
from tlx.training.diverged import out_of


def logged(found: Mapping[str, Any], head: Head | None) -> dict[str, float]:
    """The metrics (K,) of K steps: their means, and what the head reports of its summed measures,
    over the updates that were taken (nan where there is none); how many were not since the run
    began, where they are counted."""
    taken = ~out_of(found)
    names = [name for name in found if name not in ("measure", "skipping")]
    means = {name: float(np.mean(found[name][taken])) if taken.any() else np.nan for name in names}
    if "skipping" in found:
        means[TOTAL] = int(found["skipping"][TOTAL][-1])
    if head is not None and "measure" in found and taken.any():
        totals = jax.tree.map(lambda leaf: np.sum(leaf[taken], axis=0), found["measure"])
        name, report = head.selection[0], reported(head, totals)
        means |= {name: report[name]} if name in report else {}
    return means


def rate(
    optimizer: OptimizerConfig, planned: Planned, found: Mapping[str, Any], until: int
) -> float:
    """The learning rate of the last of some steps, which is the one before step `until`."""
    share = schedule(optimizer, jnp.int32(until - 1 - planned.start), planned.phase.steps)
    halved = found.get("skipping", {}).get(FACTOR, [1.0])[-1]
    return optimizer.learning_rate * float(float(share) * halved)


def cut(found: Mapping[str, Any], every: int, *, rest: bool) -> tuple[list[Any], list[Any]]:
    """(what is logged, `every` steps at a time; what waits for more steps) of the metrics of some
    steps; with `rest` nothing waits."""
    pieces = [
        jax.tree.map(lambda leaf, first=first: leaf[first : first + every], found)
        for first in range(0, len(found["loss"]), every)
    ]
    whole = rest or len(pieces[-1]["loss"]) == every
    return (pieces, []) if whole else (pieces[:-1], pieces[-1:])
