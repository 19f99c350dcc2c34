"""Small data sets live on the device.

On an accelerator a step takes less time than a batch takes to be made and sent. Where all pictures
that a phase trains on fit, they are copied once; batches only number them, and gathering,
augmenting and many steps are one program. On a CPU there is nothing to copy to, and XLA runs
convolution training in a loop 28 times slower there (`benchmarks/conv_scan.py`).
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np

from tlx.assemble import Experiment
from tlx.cache import Table
from tlx.data.splits import Subset
from tlx.feeding.frozen_tables import again, fed, host_batches
from tlx.planning.plan import Planned
from tlx.types import Batch

AT_A_TIME = 256
"""Pictures that are read in one batch."""


def loops_well() -> bool:
    """Whether the device runs training steps inside of a loop as fast as outside."""
    return jax.default_backend() != "cpu"


def tables(experiment: Experiment, planned: Planned, most: int) -> dict[str, Table]:
    """The pictures of every split that a phase reads again and again, by split, if all of them take
    no more than `most` bytes on the canvas; none where that does not pay."""
    wanted = fed(experiment)
    if not loops_well() or not again(experiment, planned):
        return {}
    if sum(_nbytes(experiment, subset) for subset in wanted.values()) > most:
        return {}
    return {name: Table(_rows(experiment, subset)) for name, subset in wanted.items()}


def _nbytes(experiment: Experiment, subset: Subset) -> int:
    """Bytes of all pictures of a split, by those of its first."""
    few = replace(subset, indices=subset.indices[:1])
    batches = host_batches(experiment, few, 1)
    return len(subset) * sum(leaf.nbytes for leaf in jax.tree.leaves([b.inputs for b in batches]))


def _rows(experiment: Experiment, subset: Subset) -> Batch:
    """Everything of a split, in its order; one weight for all."""
    batches = host_batches(experiment, subset, min(AT_A_TIME, len(subset)))
    rows = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(subset)], *batches)
    return rows._replace(weight=np.ones(1, np.float32))
