"""Fine-tuning: all of the model moves, starting from the source.

The backbone may learn more slowly than the new head, and parts of it may be kept as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import final

import jax
from jax import Array

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.model import Model
from tlx.protocols import Backbone, Phase
from tlx.trees import flat
from tlx.types import Batch, NormPolicy, Variables
from tlx_strategies import supervised


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
    """

    backbone_lr: float = 1.0
    norm: NormPolicy = "train"
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        supervised.positive(
            "backbone_lr", self.backbone_lr, "The strategy 'feature_transfer' keeps the backbone."
        )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own. Raises ConfigError where an entry of `frozen` matches no leaf."""
        every = list(flat(jax.eval_shape(model.init, rng, batch).params)) if self.frozen else []
        for pattern in self.frozen:
            kept = KeptOr(model.backbone, (pattern,))
            if not any(kept(path) == "frozen" for path in every):
                stages = list(dict.fromkeys(filter(None, map(kept.stage, every))))
                raise ConfigError(
                    f"frozen: {pattern!r} is no stage and matches no parameter."
                    f"{did_you_mean(pattern, [*stages, *every])} Stages: {listed(stages)}. "
                    f"There are {len(every)} leaves, such as {listed(every[:3])}."
                )
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head."""
        supervised.require_head(model, "finetune")
        return (
            Phase(
                name="finetune",
                steps=steps,
                group=KeptOr(model.backbone, tuple(self.frozen)),
                forward=supervised.forward,
                lr={"backbone": self.backbone_lr},
                norm=self.norm,
            ),
        )


@final
@dataclass(frozen=True)
class KeptOr:
    """The group of a leaf: 'frozen' if its stage or path is among `kept`, else its part."""

    backbone: Backbone
    kept: tuple[str, ...]

    def __call__(self, path: str) -> str:
        """Leaf path -> group."""
        names = filter(None, (path, self.stage(path)))
        kept = any(fnmatchcase(name, pattern) for name in names for pattern in self.kept)
        return "frozen" if kept else supervised.part(path)

    def stage(self, path: str) -> str | None:
        """The stage of a leaf of the backbone; None elsewhere."""
        if supervised.part(path) != "backbone":
            return None
        return self.backbone.leaf(path.removeprefix("backbone/")).stage
