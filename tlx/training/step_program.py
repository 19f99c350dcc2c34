"""The compiled step of a phase, and what it was compiled from.

Tracing and compiling are most of a short run. Seed, learning rate, weight decay and λ are arguments
of a step, so runs of a study that differ in nothing else have the same program: the second one
takes the first one's.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import jax

from tlx.assemble import Experiment
from tlx.contracts.calls import called, has_returned
from tlx.objective import Objective
from tlx.planning.plan import Planned
from tlx.protocols import StepFn
from tlx.types import Batch, Constants, PyTree, TrainState

Arguments: TypeAlias = tuple[TrainState, Constants, Batch]


class StepProgram(NamedTuple):
    """The step of a phase for arguments such as these."""

    experiment: Experiment
    planned: Planned
    objective: Objective
    arguments: Arguments

    @property
    def recipe(self) -> Hashable:
        """Equal for two steps that are the same program. All that a step may close over is in it:
        parts are compared by their fields, which are their configuration (a part without a hash
        is like no other)."""
        experiment, planned = self.experiment, self.planned
        traced = replace(experiment.config.optimizer, learning_rate=1.0, weight_decay=0.0)
        found = (
            experiment.step, self.objective, traced, planned.start, planned.phase.steps,
            _frozen(planned.multipliers), _frozen(planned.trainable), _frozen(planned.decays),
            experiment.mesh,
            _frozen(jax.tree.map(_seen, self.arguments)),
        )  # fmt: skip
        try:
            hash(found)
        except TypeError:
            return object()
        return found

    def compiled(self) -> tuple[Any, float]:
        """Traced and compiled, before the clock of its first step runs, and the seconds of that."""
        begun = time.perf_counter()
        step = build_step(self.experiment, self.planned, self.objective)
        return step.lower(*self.arguments).compile(), time.perf_counter() - begun


def build_step(experiment: Experiment, planned: Planned, objective: Objective) -> StepFn:
    """The step of a phase, not yet compiled. Raises ContractError where the run's step fails to
    build it, or gives what cannot be compiled."""
    rule, moves = experiment.update(planned), planned.trainable
    with called(experiment.step, "step", "build"):
        step = experiment.step.build(objective, rule, moves, experiment.mesh)
    fine = callable(step) and hasattr(step, "lower")
    has_returned("`build` of the step", experiment.step.build, step, fine, "what jax.jit returns")
    return step


def _frozen(tree: PyTree) -> Hashable:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaves)


def _seen(leaf: Any) -> Hashable:
    """All that a program knows of an argument."""
    return jax.typeof(leaf), getattr(leaf, "sharding", None)
