"""Which examples a run trains on, selects and tests by, as its `[data]` table says.

What cannot be read is left out beforehand where that is asked for; a run that goes on keeps the
splits that it began with.
"""

from __future__ import annotations

from typing import Any

from tlx.data import splits
from tlx.data.splits import Splits
from tlx.data.unreadable import unreadable
from tlx.planning import refusals
from tlx.run_file.run_config import DataConfig
from tlx.run_folder.as_before import Begun, as_before


def cut(data: Any, config: DataConfig, then: Begun | None = None) -> Splits:
    """The splits that a `[data]` table says; of a run that goes on, those that it began with."""
    parts = splits.cut(
        data,
        shots=config.shots,
        limit=config.limit,
        val=config.val,
        test=config.test,
        seed=config.split_seed,
        without=unreadable(data) if config.unreadable == "skip" else None,
    )
    parts = as_before(parts, then, data) if then else parts
    if config.sampling == "natural":
        return parts
    refusals.sampling(parts.train.labels, data.info)
    note = "Training draws every class equally often; an epoch is as many pictures as it has."
    return parts._replace(notes=(*parts.notes, note))
