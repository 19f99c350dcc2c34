"""Fine-tuning: all of the model moves, starting from the source.

The backbone may learn more slowly than the new head, the more so the shallower a stage lies, and
parts of it may be kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import jax
from jax import Array

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.model import Model
from tlx.protocols import Backbone, Phase
from tlx.trees import flat
from tlx.types import Batch, LeafInfo, NormPolicy, Variables
from tlx_strategies import stages, supervised


@final
@dataclass(frozen=True)
class Finetune:
    """Train backbone and head together.

    Args:
        backbone_lr: learning rate of the backbone relative to the head's.
        norm: what batch norm does where it moves: 'train' follows the target's statistics,
            'frozen' keeps the source's. Stages that are frozen whole keep theirs either way.
        frozen: what stays as it was loaded: names of stages, or globs over leaf paths
            (`backbone/conv1/*`).
        layer_decay: learning rate of a stage relative to that of the one above it, the head being
            on top: backbone_lr * layer_decay^(L - l) for stage l = 0, 1, ... of L (layer-wise
            decay as timm and MAE, arXiv:2111.06377, have it; .75 is usual). 1 treats them alike.
        stage_lr: learning rates of single stages relative to the head's, in place of what the
            other two give them (discriminative rates, arXiv:1801.06146, section 3.2).
    """

    backbone_lr: float = 1.0
    norm: NormPolicy = "train"
    frozen: tuple[str, ...] = ()
    layer_decay: float = 1.0
    stage_lr: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        supervised.positive(
            "backbone_lr", self.backbone_lr, "The strategy 'feature_transfer' keeps the backbone."
        )
        supervised.check_decay(self.layer_decay)
        for stage, rate in self.stage_lr.items():
            supervised.positive(f"stage_lr.{stage}", rate, "Name the stage in frozen to keep it.")

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own. Raises ConfigError where an entry of `frozen` matches no leaf."""
        every = list(flat(jax.eval_shape(model.init, rng, batch).params)) if self.frozen else []
        for pattern in self.frozen:
            kept = stages.Grouping(model.backbone, (pattern,))
            if not any(kept(path) == "frozen" for path in every):
                names = list(dict.fromkeys(filter(None, map(kept.stage, every))))
                raise ConfigError(
                    f"frozen: {pattern!r} is no stage and matches no parameter."
                    f"{did_you_mean(pattern, [*names, *every])} Stages: {listed(names)}. "
                    f"There are {len(every)} leaves, such as {listed(every[:3])}."
                )
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head, and for a rate that no leaf would have."""
        supervised.require_head(model, "finetune")
        by_stage = self.layer_decay != 1 or bool(self.stage_lr)
        group = stages.Grouping(model.backbone, tuple(self.frozen), by_stage)
        rates = {"backbone": self.backbone_lr}
        if by_stage or self.frozen:
            leaves = stages.leaves(model.backbone)
            rates = self._by_stage(model.backbone, leaves) if by_stage else rates
            moving = stages.moving(leaves, group, self.norm)
            for stage in self.stage_lr:
                if stages.group(stage) not in moving:
                    raise ConfigError(
                        f"stage_lr sets a learning rate for the stage {stage!r}, all of which is "
                        f"frozen. Take it out of stage_lr, or let it move."
                    )
            rates = {name: rate for name, rate in rates.items() if name in moving}
        return (supervised.training("finetune", steps, group, rates, self.norm),)

    def _by_stage(self, backbone: Backbone, leaves: Mapping[str, LeafInfo]) -> dict[str, float]:
        """Group -> multiplier of every stage."""
        levels = stages.levels(backbone, leaves, "stage_lr" if self.stage_lr else "layer_decay")
        decayed = stages.decayed(levels, self.layer_decay, self.backbone_lr)
        known = [stage for level in levels for stage in level]
        for stage in self.stage_lr:
            if stage not in known:
                raise ConfigError(
                    f"stage_lr: the backbone has no stage {stage!r} with parameters."
                    f"{did_you_mean(stage, known)} Stages: {listed(known)}."
                )
        return decayed | {stages.group(stage): rate for stage, rate in self.stage_lr.items()}
