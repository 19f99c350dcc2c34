"""What every metric must do: give one finite number of a split, however it is cut into batches.

It is tried with predictions of each form that heads give: classes, several labels, one value. What
a metric means (its formula) is for its own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.gathered_metrics import NamedMetric, collect_rows, compute_metrics
from tlx.protocols import Metric
from tlx.testing.claims import claim, claim_value, fail
from tlx.types import Batch

EXAMPLES, CLASSES = 48, 3


@final
class Subject:
    """A metric under test, with the first form of predictions that it reads."""

    def __init__(self, make: Callable[[], Metric], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Metric:
        """The metric."""
        return self.make()

    @cached_property
    def form(self) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
        """From noise (N,CLASSES) to `label` and predictions, which are perfect without any."""
        reasons = []
        for form in (_classes, _labels, _values):
            try:
                self.value(form(NOISE))
            except TlxError as error:
                reasons.append(str(error))
                continue
            return form
        fail(
            f"It reads neither classes nor several labels nor one value: {' '.join(reasons)} The "
            f"kit predicts `class`, `probability` and `probabilities`, or `labels` and "
            f"`probabilities`, or `value`."
        )

    def value(self, rows: Mapping[str, np.ndarray], size: int = EXAMPLES, extra: int = 0) -> float:
        """The metric of `rows`, `size` at a time, each batch with `extra` rows of padding."""
        metrics = (NamedMetric("tested", self.thing),)
        collect = jax.jit(lambda said, batch: collect_rows(metrics, said, batch)["tested"])
        found = []
        for said, batch in _batches(rows, size, extra):
            part = jax.device_get(collect(said, batch))
            found.append({name: leaf[: len(leaf) - extra] for name, leaf in part.items()})
        whole = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        return compute_metrics(metrics, {"tested": whole})["tested"]


NOISE = np.random.default_rng(0).normal(size=(EXAMPLES, CLASSES))


def check_value(subject: Subject) -> None:
    """Made twice with the same options it equals itself: it is part of a compiled program's key."""
    claim_value(subject.make, "The metric")


def check_better(subject: Subject) -> None:
    """`better` says which direction is better."""
    found = subject.thing.better
    claim(found in ("max", "min"), f"`better` is {found!r}, not 'max' or 'min'.")


def check_number(subject: Subject) -> None:
    """One finite number, and the same again."""
    rows = subject.form(NOISE)
    first, again = subject.value(rows), subject.value(rows)
    claim(first == again, f"Of the same examples it is {first} and then {again}.")


def check_order(subject: Subject) -> None:
    """The order of the examples does not matter."""
    order = np.random.default_rng(1).permutation(EXAMPLES)
    rows = subject.form(NOISE)
    moved = {name: leaf[order] for name, leaf in rows.items()}
    _same(subject.value(rows), subject.value(moved), "examples in another order")


def check_batches(subject: Subject) -> None:
    """How the examples are put into batches does not matter."""
    rows = subject.form(NOISE)
    for size in (7, 20):
        _same(subject.value(rows), subject.value(rows, size), f"batches of {size}")


def check_padding(subject: Subject) -> None:
    """What an example gives does not depend on the padding beside it."""
    rows = subject.form(NOISE)
    _same(subject.value(rows), subject.value(rows, EXAMPLES, 5), "5 rows of padding")


def check_direction(subject: Subject) -> None:
    """Perfect answers are no worse than those of other examples."""
    perfect = subject.form(NOISE * 0)
    order = np.random.default_rng(2).permutation(EXAMPLES)
    shuffled = {name: leaf if name == "label" else leaf[order] for name, leaf in perfect.items()}
    best, other = subject.value(perfect), subject.value(shuffled)
    worse = best < other if subject.thing.better == "max" else best > other
    claim(
        not worse,
        f"It is {best:.4g} of perfect answers and {other:.4g} of shuffled ones, and `better` is "
        f"{subject.thing.better!r}.",
    )


def _classes(noise: np.ndarray) -> Mapping[str, np.ndarray]:
    label = np.arange(EXAMPLES) % CLASSES
    scores = np.exp(np.eye(CLASSES)[label] + noise)
    scores = scores if noise.any() else np.eye(CLASSES)[label]  # certain, too
    shares = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    return {
        "label": label, "class": shares.argmax(1), "probability": shares.max(1),
        "probabilities": shares,
    }  # fmt: skip


def _labels(noise: np.ndarray) -> Mapping[str, np.ndarray]:
    label = (np.arange(EXAMPLES)[:, None] >> np.arange(CLASSES)) % 2
    sure = 1 / (1 + np.exp(-(2 * label - 1 + noise)))
    shares = (sure if noise.any() else label).astype(np.float32)
    return {"label": label, "labels": (shares >= 0.5).astype(int), "probabilities": shares}


def _values(noise: np.ndarray) -> Mapping[str, np.ndarray]:
    label = np.linspace(-1, 1, EXAMPLES, dtype=np.float32)
    return {"label": label, "value": (label + 0.2 * noise[:, 0]).astype(np.float32)}


def _batches(
    rows: Mapping[str, np.ndarray], size: int, extra: int
) -> Iterator[tuple[Mapping[str, Any], Batch]]:
    for first in range(0, EXAMPLES, size):
        part = {name: leaf[first : first + size] for name, leaf in rows.items()}
        count = len(part["label"])
        padded = {
            name: jnp.asarray(np.concatenate([leaf, np.repeat(leaf[:1], extra, 0)]))
            for name, leaf in part.items()
        }
        weight = jnp.asarray(np.arange(count + extra) < count, jnp.float32)
        label = padded.pop("label")
        index = jnp.arange(first, first + count + extra)
        yield padded, Batch({}, {"label": label}, index, weight)


def _same(one: float, other: float, what: str) -> None:
    claim(
        np.isclose(one, other, rtol=1e-6, atol=1e-9),
        f"With {what} it is {other:.6g} instead of {one:.6g}.",
    )
