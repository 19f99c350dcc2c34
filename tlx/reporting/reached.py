"""What each phase of a run has brought on validation, and which of them is kept.

A run that first finds a head and then goes on from it owes its user both numbers: what the head
alone had reached, and whether what followed was worth its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tlx.assemble import Experiment
from tlx.planning.plan import Planned
from tlx.reporting.wording import shown
from tlx.training.best_step import ahead

Reached: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Phase -> its best evaluation: `value` of the metric that chooses, `loss` and `step`; plain
numbers, so that a checkpoint can hold them."""


def followed(
    so_far: Reached, planned: Planned, direction: str, value: Any, loss: Any, step: int
) -> dict[str, Mapping[str, Any]]:
    """With one more evaluation of a phase."""
    phase = planned.phase.name
    old = so_far.get(phase)
    if old is None or ahead(direction, value, loss, old["value"], old["loss"]):
        now = {"value": float(value), "loss": float(loss), "step": step}
        return {**so_far, phase: now}
    return dict(so_far)


def kept(phases: Sequence[Planned], best_step: int) -> str:
    """The phase that the best step is of."""
    inside = (p.phase.name for p in phases if p.start < best_step <= p.stop)
    return next(inside, phases[-1].phase.name)


def words(experiment: Experiment, found: Reached, best_step: int) -> str:
    """What each brought, in a sentence; '' for a run of a single phase."""
    phases, (metric, _) = experiment.phases, experiment.selection
    if len(phases) < 2 or not all(p.phase.name in found for p in phases):
        return ""
    names = {p.phase.name: _called(p) for p in phases}
    parts = [f"{called} {shown(metric, found[name]['value'])}" for name, called in names.items()]
    return (
        f"On validation ({metric.replace('_', ' ')}): {', '.join(parts)}; kept: "
        f"{names[kept(phases, best_step)]}."
    )


def _called(planned: Planned) -> str:
    return "the head alone" if planned.phase.solve is not None else planned.phase.name
