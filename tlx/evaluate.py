"""Evaluation: every example of a split once, in mode 'eval', padding not counted.

Totals are summed on the device and turned into metrics at the end, so the result does not depend
on the batch size. The same pass gives what is predicted for single pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.compiled import compiled
from tlx.mesh import fetched
from tlx.model import Model
from tlx.protocols import ForwardFn
from tlx.types import Batch, Constants, Params, State, Variables

Totals = Mapping[str, Any]


class Evaluated(NamedTuple):
    """`metrics` by name (`loss` always); `totals` what they were made of."""

    metrics: dict[str, float]
    totals: Totals


class Sample(NamedTuple):
    """A picture of a split with the truth and the prediction, for a report."""

    image: np.ndarray
    label: int
    predicted: int
    probability: float | None


@lru_cache(maxsize=4)
def evaluator(
    model: Model, forward: ForwardFn
) -> Callable[[Params, State, Batch, Constants], Totals]:
    """`summable` compiled; the same program for the same model, so that a run compiles it once."""
    return compiled(summable(model, forward))


def summable(
    model: Model, forward: ForwardFn
) -> Callable[[Params, State, Batch, Constants], Totals]:
    """A pass over one batch that returns totals which may be added up."""

    def totals(params: Params, state: State, batch: Batch, constants: Constants) -> Totals:
        key = jax.random.key(0)
        passed = forward(
            model, params, state, batch, constants,
            rng=key, mode="eval", progress=jnp.float32(1),
        )  # fmt: skip
        weight = batch["weight"]
        found: dict[str, Any] = {
            "loss_sum": jnp.sum(passed.loss * weight),
            "examples": jnp.sum(weight),
        }
        if model.head is not None and passed.outputs is not None:
            found["measure"] = model.head.measure(passed.outputs, batch)
        return found

    return totals


def evaluate(
    totals_of: Callable[[Params, State, Batch, Constants], Totals],
    model: Model,
    variables: Variables,
    constants: Constants,
    batches: Iterable[Batch],
) -> Evaluated:
    """Metrics over all batches."""
    total: Any = None
    for batch in batches:
        found = totals_of(variables.params, variables.state, batch, constants)
        total = found if total is None else added(total, found)
    total = jax.device_get(fetched(total))
    return Evaluated(metrics_of(model, total), total)


@jax.jit
def added(total: Totals, more: Totals) -> Totals:
    """Totals of both together."""
    return jax.tree.map(jnp.add, total, more)


def metrics_of(model: Model, total: Totals) -> dict[str, float]:
    """Metrics out of the totals of all batches."""
    metrics = {"loss": float(total["loss_sum"] / total["examples"])}
    if "measure" in total and model.head is not None:
        metrics = {**model.head.report(total["measure"]), **metrics}
    return metrics


def counted(found: Evaluated) -> dict[str, float | int]:
    """The metrics, with how many `examples` they were made of and, where the head counts them,
    how many were `correct`: a published error rate can be checked to the last picture."""
    counts = {"correct": found.totals.get("measure", {}).get("correct")}
    counts["examples"] = found.totals["examples"]
    whole = {name: round(float(count)) for name, count in counts.items() if count is not None}
    return {**found.metrics, **whole}


def samples(
    model: Model, variables: Variables, batches: Iterable[Batch], each: int
) -> list[Sample]:
    """Up to `each` right and `each` wrong predictions of a classifier, in the split's order."""
    if model.head is None:
        return []

    predict = _predictor(model)
    right: list[Sample] = []
    wrong: list[Sample] = []
    for batch in batches:
        found = jax.device_get(fetched(predict(variables.params, variables.state, batch)))
        if "class" not in found or np.ndim(found["class"]) != 1:
            return []
        weight, labels = fetched(batch["weight"]), fetched(batch["label"])
        for i in np.flatnonzero(np.asarray(weight)):
            label, predicted = int(labels[i]), int(found["class"][i])
            into = right if label == predicted else wrong
            if len(into) < each:
                probability = float(found["probability"][i]) if "probability" in found else None
                image = as_uint8(fetched(batch["image"][i]))
                into.append(Sample(image, label, predicted, probability))
        if len(right) >= each and len(wrong) >= each:
            break
    return wrong + right


@lru_cache(maxsize=4)
def _predictor(model: Model) -> Callable[[Params, State, Batch], Mapping[str, Any]]:
    """What a head predicts; the same program for the same model."""
    head = model.head
    assert head is not None

    def predict(params: Params, state: State, batch: Batch) -> Mapping[str, Any]:
        passed = model.forward(params, state, batch, rng=jax.random.key(0), mode="eval")
        return head.predict(passed.outputs)

    return compiled(predict)


def answers(
    model: Model, variables: Variables, batches: Iterable[Batch]
) -> dict[str, np.ndarray] | None:
    """What a classifier says of every example of a split, in its order: `index` (N,) its number
    there, `label` and `predicted` (N,), classes; None where the head predicts no class."""
    if model.head is None:
        return None
    predict, found = _predictor(model), []
    for batch in batches:
        said = jax.device_get(fetched(predict(variables.params, variables.state, batch)))
        if "class" not in said or np.ndim(said["class"]) != 1:
            return None
        counted = np.asarray(fetched(batch["weight"])) > 0
        rows = fetched(batch["index"]), fetched(batch["label"]), said["class"]
        found.append([np.asarray(row)[counted].astype(np.int64) for row in rows])
    columns = map(np.concatenate, zip(*found, strict=True))
    return dict(zip(("index", "label", "predicted"), columns, strict=True))


def as_uint8(image: Any) -> np.ndarray:
    """Pictures as bytes; what is a float is in 0..1."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)
