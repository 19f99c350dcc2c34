"""Gradual unfreezing: first the head alone, then one more stage at a time from the top down.

Unfreezing everything at once lets the gradients of a new head undo what the source learnt; from
the top down, each stage starts to move only when those above it fit (Howard and Ruder 2018, ULMFiT,
arXiv:1801.06146, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, NormPolicy, Variables
from tlx_strategies import stages, supervised


@final
@dataclass(frozen=True)
class GradualUnfreezing:
    """One phase for the head and one for each stage, named after what begins to move in it.

    The learning rate starts anew in each, so a warm-up and a decay span one phase.

    Args:
        layer_decay: learning rate of a stage relative to that of the one above it, the head being
            on top, in every phase (section 3.2: 1 / 2.6). 1 treats them alike.
        last: share of the steps of the last phase, in which everything moves; None gives all
            phases the same number. The paper gives each but the last one epoch.
        norm: what batch norm does in the stages that move. Below them it keeps the source's
            statistics.
    """

    layer_decay: float = 1 / 2.6
    last: float | None = None
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        supervised.check_decay(self.layer_decay)
        if self.last is not None and not 0 < self.last < 1:
            raise ConfigError(
                f"last is the share of the steps in which everything moves, between 0 and 1, not "
                f"{self.last}. The strategies 'finetune' and 'feature_transfer' are the two ends."
            )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """`head`, then the stages from the last to the first; where there are fewer steps than
        phases, some before the last are left out. Raises ConfigError without a head or stages."""
        supervised.require_head(model, "gradual_unfreezing")
        leaves = stages.leaves(model.backbone)
        levels = stages.levels(model.backbone, leaves, "The strategy 'gradual_unfreezing'")
        rates = stages.decayed(levels, self.layer_decay)
        found = []
        for number, count in enumerate(self._shares(steps, len(levels) + 1)):
            below = len(levels) - number
            kept = tuple(stage for level in levels[:below] for stage in level)
            group = stages.Grouping(model.backbone, kept, by_stage=True)
            norm = self.norm if number else "frozen"
            moving = stages.moving(leaves, group, norm)
            lr = {name: rate for name, rate in rates.items() if name in moving}
            name = levels[below][0] if number else "head"
            found.append(supervised.training(name, count, group, lr, norm))
        return tuple(phase for phase in found if phase.steps)

    def _shares(self, steps: int, phases: int) -> list[int]:
        """The steps of each phase; what does not divide goes to later ones, at least one step to
        the last."""
        share = 1 / phases if self.last is None else (1 - self.last) / (phases - 1)
        ends = [int(share * steps * number + 1e-6) for number in range(phases)] + [steps]
        return [stop - start for start, stop in pairwise(ends)]
