"""Small data sets live on the device.

On an accelerator a step takes less time than a batch takes to be made and sent. Where all pictures
that a phase trains on fit, they are copied once; batches only number them, and gathering,
augmenting and many steps are one program. On a CPU there is nothing to copy to, and XLA runs
convolution training in a loop 28 times slower there (`benchmarks/conv_scan.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from tlx.assemble import Experiment
from tlx.cache import Table
from tlx.data.splits import Subset
from tlx.feeding.frozen_tables import again, fed, host_batches
from tlx.planning.plan import Planned

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
    few = Subset(subset.split, subset.indices[:1], subset.name)
    return len(subset) * sum(batch["image"].nbytes for batch in host_batches(experiment, few, 1))


def _rows(experiment: Experiment, subset: Subset) -> Mapping[str, np.ndarray]:
    """Everything of a split but the weights, in its order."""
    batches = list(host_batches(experiment, subset, min(AT_A_TIME, len(subset))))
    names = [name for name in batches[0] if name != "weight"]
    return {
        name: np.concatenate([batch[name] for batch in batches])[: len(subset)] for name in names
    }
