"""Broken metrics: each fails exactly its own check."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.testing import check, checks, failures

COUNT = itertools.count()


@dataclass(frozen=True)
class Good:
    """The share of examples that are right."""

    better: ClassVar[str] = "max"

    def collect(self, predictions, batch):
        return {"right": predictions["class"] == batch.targets["label"]}

    def compute(self, rows):
        return float(rows["right"].mean())


class Loose:
    """Equals nothing but itself."""

    better = "max"
    collect, compute = Good.collect, Good.compute


@dataclass(frozen=True)
class Undirected(Good):
    better: ClassVar[str] = "high"

    def compute(self, rows):
        return 1.0


class Unsteady(Good):
    def compute(self, rows):
        return 0.5 - 1e-12 * next(COUNT)


class ByOrder(Good):
    def compute(self, rows):
        return float((rows["right"] * np.linspace(1, 2, len(rows["right"]))).sum())


class ByBatch(Good):
    """Right where it is surer than the mean of its batch."""

    def collect(self, predictions, batch):
        sure = predictions["probability"]
        sure = jnp.where(batch.weight > 0, sure, 0).sum() / batch.weight.sum()
        return {"right": super().collect(predictions, batch)["right"] * sure}


class ByPadding(Good):
    def collect(self, predictions, batch):
        padded = (batch.weight == 0).any()
        return {"right": super().collect(predictions, batch)["right"] * jnp.where(padded, 0.5, 1)}


class Downward(Good):
    better: ClassVar[str] = "min"


METRICS = {
    "value": Loose,
    "better": Undirected,
    "number": Unsteady,
    "order": ByOrder,
    "batches": ByBatch,
    "padding": ByPadding,
    "direction": Downward,
}


def test_a_good_one_passes():
    assert len(check("metrics", Good)) == len(checks("metrics"))


@pytest.mark.parametrize("name", METRICS)
def test_a_broken_metric_fails_its_own_check_alone(name):
    assert list(failures("metrics", METRICS[name])) == [f"check_{name}"]


def test_every_check_has_something_that_it_catches():
    assert {f"check_{name}" for name in METRICS} == set(checks("metrics"))
