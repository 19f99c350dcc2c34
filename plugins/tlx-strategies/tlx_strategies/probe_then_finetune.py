"""Probe, then fine-tune: first the head alone, then everything from that head on.

A random head sends the backbone gradients that undo what the source learnt; a head that already
fits does not (Kumar et al. 2022, arXiv:2202.10054, LP-FT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, NormPolicy, Variables
from tlx_strategies import supervised
from tlx_strategies.exact_head import PATH, Solver, chosen


@final
@dataclass(frozen=True)
class ProbeThenFinetune:
    """Two phases: `probe` with the backbone frozen, then `finetune` at lower rates.

    Args:
        probe: share of the steps that the probe gets, between 0 and 1. Each phase gets at least
            one step; a run of a single step only fine-tunes.
        backbone_lr, head_lr: learning rates while fine-tuning, relative to the probe's. The
            paper lowers both alike.
        norm: what batch norm does while fine-tuning. The probe's head was fitted to features
            under the source's running statistics, and 'frozen' keeps these, so that the second
            phase starts where the first one ended; 'train' follows the target's statistics.
        solver: how the probe finds its head. 'steps' trains it by the run's optimizer; 'newton'
            finds the exact head for the un-augmented training pictures, counts as one step, and
            leaves all others to fine-tuning.
        path: for 'newton', the weights l2 of the penalty l2 / 2 * ||kernel||^2 among which the
            validation split chooses.
    """

    probe: float = 0.3
    backbone_lr: float = 0.1
    head_lr: float = 0.1
    norm: NormPolicy = "frozen"
    solver: Solver = "steps"
    path: tuple[float, ...] = PATH

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not 0 < self.probe < 1:
            raise ConfigError(
                f"probe is the share of the steps before the backbone moves, between 0 and 1, not "
                f"{self.probe}. The strategies 'finetune' and 'feature_transfer' are the two ends."
            )
        supervised.positive(
            "backbone_lr", self.backbone_lr, "The strategy 'feature_transfer' keeps the backbone."
        )
        supervised.positive("head_lr", self.head_lr, "The head goes on learning with the backbone.")
        chosen(self.solver, self.path)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """`probe` and `finetune`. Raises ConfigError without a head."""
        supervised.require_head(model, "probe_then_finetune")
        solve = chosen(self.solver, self.path)
        wanted = round(self.probe * steps) if solve is None else 1
        probe = min(max(wanted, 1), steps - 1)
        lr = {"backbone": self.backbone_lr, "head": self.head_lr}
        finetune = supervised.training("finetune", steps - probe, supervised.part, lr, self.norm)
        if probe == 0:
            return (finetune,)
        return (supervised.probe(probe, solve), finetune)
