"""Rows by number inside of a step, and what a function reads."""

import jax
import jax.numpy as jnp
import numpy as np

from tlx.devices.reads import reads
from tlx.devices.rows import fetched, taken
from tlx.types import Batch, RowBatch, unlabelled


def test_rows_are_numpys():
    rows = {"a": np.arange(12.0).reshape(4, 3), "b": {"c": np.arange(4)}}
    at = np.array([3, 0, 3])
    found = jax.jit(taken)(rows, at)
    np.testing.assert_array_equal(found["a"], rows["a"][at])
    np.testing.assert_array_equal(found["b"]["c"], rows["b"]["c"][at])


def test_one_row_stands_for_all():
    found = taken({"image": np.full((1, 2), 7)}, np.array([5, 9]))
    np.testing.assert_array_equal(found["image"], np.full((2, 2), 7))


def test_a_batch_of_numbers_is_fetched_and_another_is_left():
    number = np.arange(5)
    rows = {
        name: Batch({"x": sign * number}, {"label": number}, number, np.ones(1))
        for name, sign in (("train", 1), ("domain", -1))
    }
    weight = np.array([1.0, 0.0])
    found = fetched(RowBatch(np.array([1, 2]), weight, np.array([4, 0])), rows)
    np.testing.assert_array_equal(found.inputs["x"], [1, 2])
    np.testing.assert_array_equal(found.targets["label"], [1, 2])
    np.testing.assert_array_equal(found.domain.inputs["x"], [-4, 0])
    assert found.weight is weight
    assert found.domain.weight is weight
    assert found.domain.targets == {}
    assert fetched(RowBatch(np.array([1, 2]), weight), rows).domain is None
    whole = unlabelled({"x": np.arange(2)})
    assert fetched(whole, {}) is whole


def test_what_a_function_reads():
    def function(tree, y, z):
        unused = tree["b"] * z  # noqa: F841
        return jnp.sum(tree["a"] * y), y.shape[0] * jnp.ones(2)

    tree = {"a": np.ones(3), "b": np.ones(3)}
    assert reads(function, tree, np.ones(3), np.ones(3)) == ({"a": True, "b": False}, True, False)
