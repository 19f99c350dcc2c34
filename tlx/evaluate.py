"""Evaluation: every example of a split once, in mode 'eval', padding not counted.

Totals are summed on the device and turned into metrics at the end, so the result does not depend
on the batch size. The same pass can tell what is predicted for every single picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, reduce
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from tlx.contracts.calls import called, has_returned, where
from tlx.devices.compiled import compiled
from tlx.devices.mesh import fetched
from tlx.errors import ContractError, listed
from tlx.gathered_metrics import NamedMetric, collect_rows, compute_metrics
from tlx.model import Model
from tlx.protocols import ForwardFn, Head
from tlx.stream import closing_batches
from tlx.types import Batch, Constants, Forward, Variables

Totals = Mapping[str, Any]
Answers: TypeAlias = Mapping[str, np.ndarray]
"""What a classifier says of N examples: `index` (N,) their numbers in the source's own split,
`label` and `predicted` (N,) classes, `probability` (N,) of the predicted one where it is said."""


class Evaluated(NamedTuple):
    """`metrics` by name (`loss` always); `totals` what they were made of."""

    metrics: dict[str, float]
    totals: Totals


@lru_cache(maxsize=4)
def evaluator(model: Model, forward: ForwardFn) -> Callable[[Variables, Batch, Constants], Totals]:
    """`summable` compiled; the same program for the same model, so that a run compiles it once."""
    return compiled(summable(model, forward))


def summable(model: Model, forward: ForwardFn) -> Callable[[Variables, Batch, Constants], Totals]:
    """A pass over one batch that returns totals which may be added up."""

    def totals(variables: Variables, batch: Batch, constants: Constants) -> Totals:
        passed = forward_for_evaluation(model, forward, variables, batch, constants)
        return _totals(model, passed, batch)

    return totals


def forward_for_evaluation(
    model: Model, forward: ForwardFn, variables: Variables, batch: Batch,
    constants: Constants,
) -> Forward:  # fmt: skip
    """What a phase's forward gives in mode 'eval'."""
    return forward(
        model, variables, batch, constants,
        rng=jax.random.key(0), mode="eval", progress=jnp.float32(1),
    )  # fmt: skip


def _totals(model: Model, passed: Forward, batch: Batch) -> Totals:
    weight = batch.weight
    found: dict[str, Any] = {
        "loss_sum": jnp.sum(passed.loss * weight),
        "examples": jnp.sum(weight),
    }
    if model.head is not None and passed.outputs is not None:
        with called(model.head, "head", "measure", {"batch": batch}):
            found["measure"] = model.head.measure(passed.outputs, batch)
    return found


def evaluate(
    totals_of: Callable[[Variables, Batch, Constants], Totals],
    model: Model,
    variables: Variables,
    constants: Constants,
    batches: Iterable[Batch],
) -> Evaluated:
    """Metrics over all batches; those that are made ahead are closed."""

    def totals(batch: Batch) -> Totals:
        return totals_of(variables, batch, constants)

    with closing_batches(batches) as each:
        return _measured(model, reduce(added, map(totals, each)))


@jax.jit
def added(total: Totals, more: Totals) -> Totals:
    """Totals of both together."""
    return jax.tree.map(jnp.add, total, more)


def _measured(model: Model, total: Totals) -> Evaluated:
    """The metrics of totals that lie on devices."""
    total = jax.device_get(fetched(total))
    return Evaluated(metrics_of(model, total), total)


def metrics_of(model: Model, total: Totals) -> dict[str, float]:
    """Metrics out of the totals of all batches."""
    metrics = {"loss": float(total["loss_sum"] / total["examples"])}
    if "measure" in total and model.head is not None:
        metrics = {**reported(model.head, total["measure"]), **metrics}
    return metrics


def reported(head: Head, totals: Mapping[str, Any]) -> Mapping[str, float]:
    """What a head reports of summed measures. Raises ContractError where it fails, or leaves out
    the metric that it selects by."""
    with called(head, "head", "report", {"totals": totals}):
        found = head.report(totals)
    fine, metric = isinstance(found, Mapping), head.selection[0]
    who = f"`report` of the head {type(head).__name__}"
    has_returned(who, head.report, found, fine, "metrics by name")
    if metric not in found:
        raise ContractError(
            f"{who}{where(head.report)} has to give the metric {metric!r}, which `selection` "
            f"names; it gives {listed(found)}."
        )
    return found


def counted(found: Evaluated) -> dict[str, float | int]:
    """The metrics, with how many `examples` they were made of and, where the head counts them,
    how many were `correct`: a published error rate can be checked to the last picture."""
    counts = {"correct": found.totals.get("measure", {}).get("correct")}
    counts["examples"] = found.totals["examples"]
    whole = {name: round(float(count)) for name, count in counts.items() if count is not None}
    return {**found.metrics, **whole}


@lru_cache(maxsize=4)
def _row_evaluator(
    model: Model, forward: ForwardFn, metrics: tuple[NamedMetric, ...]
) -> Callable[[Variables, Batch, Constants], tuple[Totals, Mapping[str, Any]]]:
    """As `evaluator`, beside the totals a row for each example: its `weight`, what the head
    predicts (`answers`, empty where that is no class) and what each metric collects (`metrics`)."""

    def both(
        variables: Variables, batch: Batch, constants: Constants
    ) -> tuple[Totals, Mapping[str, Any]]:
        passed = forward_for_evaluation(model, forward, variables, batch, constants)
        said = model.predict(passed.outputs)
        rows = {
            "weight": batch.weight,
            "answers": _class_answers(said, batch),
            "metrics": collect_rows(metrics, said, batch),
        }
        return _totals(model, passed, batch), rows

    return compiled(both)


def _class_answers(said: Mapping[str, Any], batch: Batch) -> Mapping[str, Any]:
    """A classifier's `Answers` of a batch; nothing where it predicts no class."""
    if "class" not in said or jnp.ndim(said["class"]) != 1:
        return {}
    found = {"index": batch.index, "label": batch.targets["label"], "predicted": said["class"]}
    return found | ({"probability": said["probability"]} if "probability" in said else {})


def evaluate_each(
    model: Model,
    forward: ForwardFn,
    variables: Variables,
    constants: Constants,
    batches: Iterable[Batch],
    metrics: tuple[NamedMetric, ...] = (),
) -> tuple[Evaluated, Answers | None]:
    """As `evaluate`, and from the same pass `metrics` of the whole split and what a classifier says
    of every example; None where the head predicts no class."""
    if model.head is None:
        program = evaluator(model, forward)
        return evaluate(program, model, variables, constants, batches), None
    both, rows = _row_evaluator(model, forward, metrics), []

    def totals(batch: Batch) -> Totals:
        found, row = both(variables, batch, constants)
        rows.append(row)
        return found

    with closing_batches(batches) as each:
        found = _measured(model, reduce(added, map(totals, each)))
    every = _real_rows(rows)
    if metrics and np.isfinite(found.metrics["loss"]):
        own = compute_metrics(metrics, every["metrics"])
    else:  # of numbers that are none the loss says enough
        own = {name: math.nan for name, _ in metrics}
    return found._replace(metrics={**found.metrics, **own}), _answers(every["answers"])


def _real_rows(rows: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Those of all batches that count, on the host."""
    fetched_rows = jax.device_get(fetched(rows))
    columns = jax.tree.map(lambda *leaves: np.concatenate(leaves), *fetched_rows)
    return jax.tree.map(lambda leaf: leaf[columns["weight"] > 0], columns)


def _answers(columns: Mapping[str, np.ndarray]) -> Answers | None:
    if not columns:
        return None
    whole = {name: columns[name].astype(np.int64) for name in ("index", "label", "predicted")}
    return {**columns, **whole}


def chosen(answers: Answers, order: np.ndarray, each: int) -> np.ndarray:
    """Which answers to show, up to `each` wrong ones and then as many right ones, as they come in
    an `order` (N,) of all."""
    wrong = (answers["label"] != answers["predicted"])[order]
    return np.concatenate([order[wrong][:each], order[~wrong][:each]])


def as_uint8(image: Any) -> np.ndarray:
    """Pictures as bytes; what is a float is in 0..1."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)
