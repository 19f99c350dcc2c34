"""How good a phase's model is on a split, or on batches of it."""

from __future__ import annotations

from collections.abc import Iterable

from tlx.assemble import Experiment
from tlx.data.splits import Subset
from tlx.evaluate import Answers, Evaluated, evaluate, evaluate_each, evaluator
from tlx.feeding.feed import eval_batches
from tlx.planning.plan import Planned
from tlx.types import Batch, Variables


def evaluated(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    examples: Subset | Iterable[Batch],
) -> Evaluated:
    """Metrics and totals of a split, or of its batches, with a phase's forward pass; `variables`
    are those that the network runs with."""
    batches = eval_batches(experiment, examples) if isinstance(examples, Subset) else examples
    model, forward, constants = planned.model, planned.phase.forward, experiment.constants
    if metrics := experiment.metrics:
        return evaluate_each(model, forward, variables, constants, batches, metrics)[0]
    return evaluate(evaluator(model, forward), model, variables, constants, batches)


def answered(
    experiment: Experiment, planned: Planned, variables: Variables, subset: Subset
) -> tuple[Evaluated, Answers | None]:
    """The same of a split, and what is said of each of its examples in its order; None where that
    is no class."""
    return evaluate_each(
        planned.model,
        planned.phase.forward,
        variables,
        experiment.constants,
        eval_batches(experiment, subset),
        experiment.metrics,
    )
