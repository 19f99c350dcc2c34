"""A run that goes on for more steps, or for fewer, than it was started with.

What has been learnt stays; what depends on the length of the whole run (schedules, the share of
its phases) is from there on what a run of the new length has at that step, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from tlx.assemble import Experiment
from tlx.errors import CheckpointError
from tlx.planning.optimizer import schedule
from tlx.planning.plan import Planned, plan
from tlx.protocols import Averages


def going_on(experiment: Experiment, step: int, meta: Mapping[str, Any]) -> str:
    """What is said where the run, which is at `step`, was started for another length than it has
    now, as the `meta` of its checkpoint tells; '' where it was not. Raises CheckpointError where it
    is past its new end, or would be in another phase."""
    now, before = experiment.steps, meta.get("steps")
    if before is None or before == now:
        return ""
    if step > now:
        raise CheckpointError(
            f"Cannot resume: the run is at step {step} already, and would now end at {now}. Give "
            f"it at least as many epochs or steps as it has had, or --overwrite to start anew."
        )
    was = plan(experiment.strategy, experiment.model, experiment.variables.params, before)
    then, after = _phase_at(was, step), _phase_at(experiment.phases, step)
    if then.phase.name != after.phase.name:
        raise CheckpointError(
            f"Cannot resume: at step {step} of {before} the run is in its phase "
            f"{then.phase.name!r}, and at step {step} of {now} it would be in "
            f"{after.phase.name!r}. Finish it as it was started, and then let it go on for longer."
        )
    said = f"The run was started for {before} steps and goes on to {now}."
    if not _depends(experiment):
        return said
    rates = [_rate(experiment, planned, step) for planned in (then, after)]
    rate = "" if after.phase.solve else (
        f" (a learning rate of {rates[1]:.3g} where it had come to {rates[0]:.3g})"
    )  # fmt: skip
    return (
        f"{said} From here on it is what a run of {now} steps is at step {step}{rate}, so it does "
        f"not end as one that had {now} steps from its beginning."
    )


def _phase_at(phases: tuple[Planned, ...], step: int) -> Planned:
    return next(planned for planned in phases if step <= planned.stop)


def _rate(experiment: Experiment, planned: Planned, step: int) -> float:
    optimizer, along = experiment.config.optimizer, jnp.int32(max(step - planned.start, 0))
    return optimizer.learning_rate * float(schedule(optimizer, along, planned.phase.steps))


def _depends(experiment: Experiment) -> bool:
    """Whether a step before the end may go by the length of the whole run."""
    optimizer, terms = experiment.config.optimizer, experiment.terms
    return (
        optimizer.schedule != "constant"
        or optimizer.warmup > 0
        or len(experiment.phases) > 1
        or isinstance(experiment.strategy, Averages)
        or any(term.schedule != "constant" or "progress" in term.words for term in terms)
    )
