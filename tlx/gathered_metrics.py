"""Metrics that are computed of a whole split: what they collect of each batch, and their values.

The rows come from the pass that also gives the totals. The first process computes, and all
processes get the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tlx.contracts.calls import called, has_returned, where
from tlx.devices import hosts
from tlx.errors import ContractError, TlxError
from tlx.protocols import Metric
from tlx.types import Batch


class NamedMetric(NamedTuple):
    """A metric and the name under which its value is told."""

    name: str
    metric: Metric


Rows = Mapping[str, Mapping[str, Any]]
"""Name of a metric -> what it collects, (B,...) or (N,...) by name."""


def collect_rows(
    metrics: tuple[NamedMetric, ...], predictions: Mapping[str, Any], batch: Batch
) -> Rows:
    """What every metric collects of a batch; traced. Raises ContractError where one fails."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, metric in metrics:
        given = {"predictions": predictions, "batch.targets": batch.targets}
        with called(metric, "metric", "collect", given):
            rows = metric.collect(predictions, batch)
        fine = isinstance(rows, Mapping) and bool(rows)
        who = f"`collect` of the metric {name!r}"
        has_returned(who, metric.collect, rows, fine, "arrays by name, one row an example")
        for key, value in rows.items():
            shape = np.shape(value)
            if shape[:1] != batch.weight.shape:
                raise ContractError(
                    f"{who}{where(metric.collect)} gives {key!r} with the shape {shape}; its first "
                    f"axis has to be the {len(batch.weight)} examples of the batch."
                )
        found[name] = dict(rows)
    return found


def compute_metrics(metrics: tuple[NamedMetric, ...], rows: Rows) -> dict[str, float]:
    """The value of every metric for the rows (N,...) of a whole split, the same in all processes.
    Raises ContractError, naming the metric, where one fails or gives no finite number."""
    return hosts.once(lambda: {name: _value(name, metric, rows[name]) for name, metric in metrics})


def _value(name: str, metric: Metric, rows: Mapping[str, np.ndarray]) -> float:
    who = f"`compute` of the metric {name!r}"
    with called(metric, "metric", "compute", {"rows": rows}):
        try:
            value = metric.compute(rows)
        except (TlxError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ContractError(f"{who} has no answer{where(metric.compute)}: {said}") from error
    one = isinstance(value, int | float | np.number) or getattr(value, "shape", None) == ()
    has_returned(who, metric.compute, value, one, "one number")
    if not np.isfinite(number := float(value)):
        raise ContractError(
            f"{who}{where(metric.compute)} gives {number}, which is no finite number and could "
            f"decide nothing. Where the examples leave it undefined it has to raise a ConfigError "
            f"that says why."
        )
    return number
