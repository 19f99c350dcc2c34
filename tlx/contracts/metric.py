"""The contract of a metric that does not add up over batches: macro-F1, AUROC, a rank correlation.

What it needs of each example is gathered over a whole split, and the number is computed of all of
them at once on the host. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tlx.types import Batch

if TYPE_CHECKING:
    import numpy as np
    from jax import Array


@runtime_checkable
class Metric(Protocol):
    """A frozen dataclass whose fields are its options. It depends neither on how examples are put
    into batches nor on their order."""

    @property
    def better(self) -> Literal["max", "min"]:
        """Whether a higher or a lower value is better."""
        ...

    def collect(self, predictions: Mapping[str, Any], batch: Batch) -> Mapping[str, Array]:
        """What `compute` needs of each example, (B,...) by name; small, since it is kept for a
        whole split. `predictions` is what the head's `predict` gives. Runs in jit."""
        ...

    def compute(self, rows: Mapping[str, np.ndarray]) -> float:
        """One finite number of what was collected, (N,...) by name in the split's order, without
        padding. Runs on the host in numpy. Raises ConfigError or ValueError with a sentence where
        the examples leave it undefined, such as a single class."""
        ...
