"""What is recorded of each example, and finding it again by the example's number."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import ContractError
from tlx.objective import Objective, Term
from tlx.planning.records import needs, record
from tlx.testing.world import constants, world


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Remembers:
    """Squared distance from the outputs at the start."""

    def record(self, *, outputs, source_features):
        return {"outputs": outputs, "pooled": source_features["pooled"]}

    def __call__(self, *, outputs, recorded):
        return jnp.mean((outputs - recorded["outputs"]) ** 2)


@dataclass(frozen=True)
class Greedy:
    def record(self, *, outputs, params):
        return {"outputs": outputs}

    def __call__(self, *, recorded):
        return jnp.float32(0)


@pytest.fixture(scope="module")
def here():
    return world()


@pytest.fixture(scope="module")
def objective(here):
    term = Term("remembers", Remembers())
    return Objective(here.model, supervised, (term,), (("source", here.model),))


def batches(here):
    """Six examples, numbered out of order, in two batches, the second one padded."""
    index = np.array([40, 7, 23, 11, 5, 9])
    whole = here.batch._replace(index=jnp.asarray(index))
    first = jax.tree.map(lambda leaf: leaf[:4], whole)
    second = jax.tree.map(lambda leaf: leaf[jnp.array([4, 5, 5, 5])], whole)
    return whole, [first, second._replace(weight=jnp.array([1.0, 1, 0, 0]))]


def test_every_example_once_sorted_by_number(here, objective):
    whole, parts = batches(here)
    table = record(objective, objective.terms[0], here.variables, constants(here), parts)
    assert table["index"].tolist() == [5, 7, 9, 11, 23, 40]
    passed = here.model.apply(here.variables, whole, rng=jax.random.key(0), mode="eval")
    order = np.argsort(whole.index)
    np.testing.assert_allclose(table["values"]["outputs"], passed.outputs[order], atol=1e-6)
    source, _ = here.model.features(here.source, whole, rng=jax.random.key(0), mode="eval")
    np.testing.assert_allclose(table["values"]["pooled"], source["pooled"][order], atol=1e-6)


def test_a_step_finds_its_own_examples_in_any_order(here, objective):
    whole, parts = batches(here)
    reads = constants(here, divergence={"remembers": 1.0})
    table = record(objective, objective.terms[0], here.variables, reads, parts)
    reads = reads._replace(recorded={"remembers": table})
    for order in ([3, 0, 5], [5, 5, 1], [2, 4, 0]):
        batch = jax.tree.map(lambda leaf, order=order: leaf[jnp.array(order)], whole)
        _, (_, metrics) = objective(
            *here.variables, batch, reads, rng=jax.random.key(0), progress=jnp.float32(0),
            mode="eval",
        )  # fmt: skip
        assert float(metrics["divergence/remembers"]) < 1e-10
    wrong = batch._replace(index=batch.index[::-1])
    _, (_, metrics) = objective(
        *here.variables, wrong, reads, rng=jax.random.key(0), progress=jnp.float32(0), mode="eval"
    )
    assert float(metrics["divergence/remembers"]) > 1e-6


def test_words_of_both_are_needed_and_of_a_batch_refused(objective):
    assert needs(objective.terms[0]) == {"outputs", "recorded", "source_features"}
    with pytest.raises(ContractError, match=r"params, which belong to no single example"):
        needs(replace(objective.terms[0], divergence=Greedy()))
