"""Feature transfer: the source's features as they are, and a new head on top.

Also called a linear probe. The backbone, its batch statistics included, stays bit for bit what
was loaded, so its features can be computed once, and a head that is convex in its parameters be
solved for instead of stepped towards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Variables
from tlx_strategies import supervised
from tlx_strategies.exact_head import PATH, Solver, chosen


@final
@dataclass(frozen=True)
class FeatureTransfer:
    """Freeze every leaf of the backbone and its statistics; train the head.

    Args:
        solver: 'steps' trains by the run's optimizer. 'newton' finds the exact head for the
            un-augmented training pictures within seconds; the run's number of epochs, learning
            rate and weight decay play no part, and there can be no divergences.
        path: for 'newton', the weights l2 of the penalty l2 / 2 * ||kernel||^2 among which the
            validation split chooses.
    """

    solver: Solver = "steps"
    path: tuple[float, ...] = PATH

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        chosen(self.solver, self.path)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase in which only the head moves. Raises ConfigError without a head."""
        supervised.require_head(model, "feature_transfer")
        return (supervised.probe(steps, chosen(self.solver, self.path)),)
