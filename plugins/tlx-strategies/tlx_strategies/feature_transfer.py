"""Feature transfer: the source's features as they are, and a new head on top.

Also called a linear probe. The backbone, its batch statistics included, stays bit for bit what
was loaded, so its features can be computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Variables
from tlx_strategies import supervised


@final
@dataclass(frozen=True)
class FeatureTransfer:
    """Freeze every leaf of the backbone and its statistics; train the head."""

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase in which only the head moves. Raises ConfigError without a head."""
        supervised.require_head(model, "feature_transfer")
        return (supervised.probe(steps),)
