"""The metrics of a run file before the first step: each is built and traced, and one may select.

A metric that cannot read what the head predicts, that would gather more than fits, or whose name
the head has taken is refused here, and so is a selection by a name that nobody reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx import registry
from tlx.contracts.calls import called
from tlx.errors import ConfigError, ContractError, did_you_mean, listed
from tlx.evaluate import forward_for_evaluation, metrics_of
from tlx.gathered_metrics import NamedMetric, collect_rows
from tlx.types import Batch

if TYPE_CHECKING:
    from tlx.assemble import Experiment
    from tlx.config import RunConfig
    from tlx.planning.plan import Planned

LIMIT = 2**30
"""Bytes that one metric may gather of a split."""
_ROWS = 7
"""Examples of the batch that is traced: a number that no other axis is likely to have."""
_DIRECTIONS = {
    "max": ("accuracy", "recall", "precision", "f1", "r2", "auroc", "iou", "dice"),
    "min": ("loss", "error", "mse", "rmse", "mae", "perplexity"),
}
"""Words in the names of metrics that heads report, by what is better."""


def with_metrics(experiment: Experiment, sample: Batch) -> Experiment:
    """The experiment with the metrics of its run file, and with what selects the best step.
    `sample` is a batch as the stream gives it. Raises ConfigError or ContractError."""
    config = experiment.config
    if not config.metric and config.selection.metric is None:
        if config.selection.better is not None:
            raise ConfigError("[selection] better stands alone; it goes with `metric`.")
        return experiment
    if experiment.model.head is None:
        raise ConfigError(
            "[[metric]] and [selection] judge what a head predicts, and this run trains no head. "
            "Leave them out, or give the run a head."
        )
    metrics = build_metrics(config)
    of_head = _reported(experiment, sample)
    if taken := [name for name, _ in metrics if name in of_head]:
        raise ConfigError(
            f"The head {_head(experiment)!r} reports {taken[0]!r} itself. Leave the [[metric]] "
            f"out, or give it a `label` of its own. [selection] metric may name what the head "
            f"reports: {listed(sorted(of_head))}."
        )
    if metrics:
        for planned in experiment.phases:
            _trace(experiment, planned, metrics, sample)
    return experiment._replace(
        metrics=metrics, chosen_by=_chosen_by(experiment, metrics, sorted(of_head))
    )


def build_metrics(config: RunConfig) -> tuple[NamedMetric, ...]:
    """The metrics of `[[metric]]`. Raises ContractError for one without a direction or a hash."""
    found = []
    for part in config.metric:
        metric: Any = registry.build("metrics", part.name, part.options)
        if metric.better not in ("max", "min"):
            raise ContractError(
                f"`better` of the metric {part.key!r} has to be 'max' or 'min', not "
                f"{metric.better!r}."
            )
        try:
            hash(metric)
        except TypeError as error:
            raise ContractError(
                f"The metric {part.key!r} does not hash ({error}). Make it a frozen dataclass."
            ) from error
        found.append(NamedMetric(part.key, metric))
    return tuple(found)


def _reported(experiment: Experiment, sample: Batch) -> Mapping[str, float]:
    """What the head reports, by name, for answers that are all 0: the names are what counts."""
    head, last = experiment.model.head, experiment.final
    assert head is not None
    shapes = jax.eval_shape(
        lambda variables: forward_for_evaluation(
            last.model, last.phase.forward, variables, sample, experiment.constants
        ),
        experiment.used(experiment.variables),
    )
    if shapes.outputs is None:
        return {"loss": 0.0}
    outputs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.outputs)
    with called(head, "head", "measure", {"batch": sample}), np.errstate(all="ignore"):
        measured = jax.device_get(head.measure(outputs, sample))
    return metrics_of(last.model, {"loss_sum": 0.0, "examples": 1.0, "measure": measured})


def _trace(
    experiment: Experiment, planned: Planned, metrics: tuple[NamedMetric, ...], sample: Batch
) -> None:
    """Refuse a metric that fails on the shapes of a batch, or that would gather too much."""
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((_ROWS, *np.shape(leaf)[1:]), leaf.dtype), sample
    )

    def rows(variables: Any, batch: Batch) -> Any:
        passed = forward_for_evaluation(
            planned.model, planned.phase.forward, variables, batch, experiment.constants
        )
        if passed.outputs is None:
            raise ConfigError(
                f"The phase {planned.phase.name!r} of the strategy "
                f"{experiment.config.strategy.name!r} gives no answers of a head, of which the "
                f"metric {metrics[0].name!r} could be computed. Leave the [[metric]] out."
            )
        return collect_rows(metrics, planned.model.predict(passed.outputs), batch)

    found = jax.eval_shape(rows, experiment.used(experiment.variables), batch)
    parts = experiment.splits.parts
    largest = max(("val", "test"), key=lambda name: len(parts[name]))
    for name, columns in found.items():
        each = sum(leaf.size * leaf.dtype.itemsize for leaf in columns.values()) // _ROWS
        if (total := each * len(parts[largest])) > LIMIT:
            raise ConfigError(
                f"The metric {name!r} gathers {each:,} bytes of each example, {total / 2**30:.1f} "
                f"GiB of the {len(parts[largest]):,} in {largest!r}, and may gather "
                f"{LIMIT / 2**30:.0f} GiB. Leave it out, or let its `collect` keep less."
            )


def _chosen_by(
    experiment: Experiment, metrics: tuple[NamedMetric, ...], of_head: list[str]
) -> tuple[str, str] | None:
    """The metric that `[selection]` names and its direction; None where the head chooses."""
    wanted, better = experiment.config.selection.metric, experiment.config.selection.better
    if wanted is None:
        return None
    own = {name: metric.better for name, metric in metrics}
    known = [*own, *of_head]
    if wanted not in known:
        raise ConfigError(
            f"[selection] metric: nothing reports {wanted!r}.{did_you_mean(wanted, known)} The "
            f"head {_head(experiment)!r} and the [[metric]] tables of this run report: "
            f"{listed(known)}."
        )
    direction = own.get(wanted) or _direction(experiment, wanted)
    if direction is None and better is None:
        raise ConfigError(
            f"[selection] metric: whether a higher or a lower {wanted!r} is better is not known. "
            f'Say it beside it: better = "max" or better = "min".'
        )
    if direction is not None and better not in (None, direction):
        raise ConfigError(
            f"[selection] better: of {wanted!r} it is {direction!r}, not {better!r}. Leave it out."
        )
    solved = [planned.phase.name for planned in experiment.phases if planned.phase.solve]
    head = experiment.model.head
    if solved and head is not None and wanted != head.selection[0]:
        raise ConfigError(
            f"[selection] metric: the head of {solved[0]!r} is solved for, and how strongly it is "
            f"held is chosen by the head's own {head.selection[0]!r}. Take a strategy that trains "
            f"in steps, or leave [selection] out."
        )
    return wanted, direction or better or "max"


def _direction(experiment: Experiment, name: str) -> str | None:
    """What is better of a metric that the head reports; None where its name does not say."""
    head = experiment.model.head
    if head is not None and name == head.selection[0]:
        return head.selection[1]
    parts = name.split("_")
    found = [way for way, words in _DIRECTIONS.items() if any(word in parts for word in words)]
    return found[0] if len(found) == 1 else None


def _head(experiment: Experiment) -> str:
    return experiment.config.head.name if experiment.config.head else ""
