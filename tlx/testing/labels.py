"""Features and labels that fit a head, found by trying.

A contract does not say which form of label a head takes: a class, a row of yes and no, real
numbers, a class per pixel. The first form that its loss takes is the one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tlx.protocols import Head
from tlx.testing.claims import fail
from tlx.testing.samples import VALUES
from tlx.types import Batch, Features, PyTree

BATCH = 6
INPUTS = {"image": np.zeros((BATCH, 16, 16, 3), np.float32)}
SHAPES = {"vector": (BATCH, 8), "map": (BATCH, 4, 4, 8), "tokens": (BATCH, 5, 8)}


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Normal numbers, made without compiling anything."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def features_for(head: Head) -> Features:
    """Features of one kind, under the names that the head needs. ContractError if it takes none."""
    refusals = []
    for kind, shape in SHAPES.items():
        features: Any = {name: noise(shape, seed) for seed, name in enumerate(head.needs)}
        try:
            jax.eval_shape(head.init, jax.random.key(1), features)
        except Exception as e:
            refusals.append(f"{kind}: {e}")
            continue
        return features
    fail(f"`init` takes neither vectors nor maps nor tokens. {' '.join(refusals)}")


def batch_for(head: Head, outputs: PyTree) -> Batch:
    """A batch with labels that the head's loss takes. ContractError if it takes none."""
    refusals = []
    for label in _labels(outputs):
        batch = Batch(INPUTS, {"label": label}, np.arange(BATCH), np.ones(BATCH, np.float32))
        try:
            jax.eval_shape(head.loss, outputs, batch)
        except Exception as e:
            refusals.append(f"{label.dtype}{label.shape}: {e}")
            continue
        return batch
    fail(f"`loss` takes none of these labels. {' '.join(refusals)}")


def _labels(outputs: PyTree) -> Iterator[np.ndarray]:
    classes = int(VALUES["classes"])
    yield np.arange(BATCH) % classes
    for leaf in jax.tree.leaves(outputs):
        yield (noise(leaf.shape, 4) > 0).astype(np.int32)
        yield noise(leaf.shape, 4)
        yield np.arange(np.prod(leaf.shape[:-1])).reshape(leaf.shape[:-1]) % classes
