"""How good a model is on a split, and which of two evaluations is the better one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tlx.assemble import Experiment
from tlx.evaluate import Evaluated, evaluate, evaluator
from tlx.feed import eval_batches
from tlx.plan import Planned
from tlx.splits import Subset
from tlx.types import Batch, Variables


def ahead(direction: str, value: Any, loss: Any, best: Any, best_loss: Any) -> bool:
    """Whether an evaluation is better than the best so far.

    Of equals the one with the lower loss is better: an accuracy on a few dozen pictures has few
    values, and the first step to reach one is rarely the best of them."""
    further = value > best if direction == "max" else value < best
    return bool(np.isfinite(value)) and bool(further or (value == best and loss < best_loss))


def evaluated(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    examples: Subset | Iterable[Batch],
) -> Evaluated:
    """Metrics and totals of a split, or of its batches, with a phase's forward pass; `variables`
    are those that the network runs with."""
    return evaluate(
        evaluator(planned.model, planned.phase.forward),
        planned.model,
        variables,
        experiment.constants,
        eval_batches(experiment, examples) if isinstance(examples, Subset) else examples,
    )
