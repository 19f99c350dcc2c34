"""Surgical fine-tuning: one block of the backbone moves, and the head.

What a target differs in from its source often lies in one part of the network, and tuning that
alone beats tuning all of it (Lee et al. 2023, arXiv:2210.11466). Which one is told by the gradient
at the source: the block that it would change most, relative to its size (section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.model import Model
from tlx.protocols import Phase
from tlx.trees import flat
from tlx.types import Batch, NormPolicy, Params, Variables
from tlx_strategies import stages, supervised


def surgical(
    block: str | None = None, backbone_lr: float = 1.0, norm: NormPolicy = "frozen"
) -> Surgical:
    """Train the head and one block of the backbone; keep all else.

    Args:
        block: name of the stage that moves; without one it is chosen before the run, by the
            largest relative gradient norm over the training split.
        backbone_lr: learning rate of the block relative to the head's.
        norm: what batch norm does in the block: 'frozen' keeps the source's statistics, which
            those above it need anyway.
    """
    supervised.positive(
        "backbone_lr", backbone_lr, "The strategy 'feature_transfer' keeps the backbone."
    )
    return Surgical(block, backbone_lr, norm)


@final
@dataclass(frozen=True)
class Surgical:
    """As `surgical`; `norms` are the relative gradient norms that `block` was chosen by."""

    block: str | None = None
    backbone_lr: float = 1.0
    norm: NormPolicy = "frozen"
    norms: tuple[tuple[str, float], ...] = field(default=(), compare=False)

    def setup(
        self,
        *,
        model: Model,
        variables: Variables,
        batches: Callable[[], Iterable[Batch]],
        rng: Array,
    ) -> Surgical:
        """With the block of the largest relative gradient norm. Raises ConfigError where no
        gradient says which."""
        if self.block is not None:
            return self
        supervised.require_head(model, "surgical")
        found = relative_gradient_norms(model, variables, batches(), rng)
        block, largest = max(found.items(), key=lambda each: each[1])
        if not 0 < largest < float("inf"):
            raise ConfigError(
                "The strategy 'surgical' chooses a block by the gradient at the source, and that "
                f"is {largest:g} in every stage: a head that begins at 0 gives none, say. Name "
                f"the block that moves: block = {next(iter(found))!r}."
            )
        return replace(self, block=block, norms=tuple(found.items()))

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head, or for a block that there is not."""
        supervised.require_head(model, "surgical")
        levels = _blocks(model)
        names = [stage for level in levels for stage in level]
        block = self.block
        if block is None:
            raise ConfigError(
                "The strategy 'surgical' chooses its block in `setup`, which a run calls before "
                f"`phases`. Name the block that moves: block = {names[0]!r}."
            )
        if block not in names:
            raise ConfigError(
                f"The strategy 'surgical' is to tune block = {block!r}, and the network has no "
                f"such stage.{did_you_mean(block, names)} It has: {listed(names)}."
            )
        kept = [stage for level in levels if block not in level for stage in level]
        group = stages.Grouping(model.backbone, kept)
        return (
            supervised.training(
                "surgical", steps, group, {"backbone": self.backbone_lr}, self.norm
            ),
        )

    def notes(self, model: Model) -> tuple[str, ...]:
        """Which block was chosen, and by what."""
        if not self.norms:
            return ()
        each = listed([f"{name} {value:.3g}" for name, value in self.norms])
        return (
            f"Of the backbone {self.block} is tuned, whose gradient at the source is the largest "
            f"relative to its size: {each}.",
        )


def relative_gradient_norms(
    model: Model, variables: Variables, batches: Iterable[Batch], rng: Array
) -> dict[str, float]:
    """By the first stage of each block: the norm of the gradient of the head's loss relative to
    that of the parameters, the mean over batches (section 4, Auto-RGN)."""
    levels, numbers = _blocks(model), variables.params["backbone"]
    leaves = stages.leaves(model.backbone)
    stage_of = {path.removeprefix("backbone/"): info.stage for path, info in leaves.items()}

    def loss(own: Params, batch: Batch) -> Array:
        given = Variables({**variables.params, "backbone": own}, variables.state)
        found = model.apply(given, batch, rng=rng, mode="eval").loss
        return jnp.sum(found * batch.weight) / jnp.maximum(jnp.sum(batch.weight), 1)

    @jax.jit
    def norms(own: Params, batch: Batch) -> Array:
        return jnp.stack([_norms(t, stage_of, levels) for t in (jax.grad(loss)(own, batch), own)])

    each = [np.asarray(norms(numbers, batch), np.float64) for batch in batches]
    ratios = np.mean([g / np.where(size > 0, size, np.inf) for g, size in each], axis=0)
    return {level[0]: float(ratio) for level, ratio in zip(levels, ratios, strict=True)}


def _norms(tree: Params, stage_of: dict[str, str], levels: stages.Levels) -> Array:
    squares = {path: jnp.sum(leaf**2) for path, leaf in flat(tree).items()}
    return jnp.stack([
        jnp.sqrt(jnp.sum(jnp.stack([s for p, s in squares.items() if stage_of[p] in level])))
        for level in levels
    ])  # fmt: skip


def _blocks(model: Model) -> stages.Levels:
    return stages.levels(model.backbone, stages.leaves(model.backbone), "The strategy 'surgical'")
