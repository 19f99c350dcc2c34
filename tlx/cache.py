"""A frozen prefix is computed once, not every epoch.

Where the first stages of a backbone neither move nor see augmented pictures, what they say of a
picture never changes: it is kept for every example and handed to the rest of the network with
each batch. The batches are those of `tlx.stream`, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.model import Model, Prefix
from tlx.phase import Examples
from tlx.stream import order
from tlx.types import Batch, Params, PyTree, State, Variables


class Table(NamedTuple):
    """Everything of a split: each entry of its batches, `prefix` among them, as (N,...) arrays
    on the host."""

    rows: Mapping[str, PyTree]

    def __len__(self) -> int:
        return len(self.rows["index"])

    def at(self, positions: np.ndarray, weight: np.ndarray) -> Batch:
        """The batch of these examples, on the host."""
        return {**jax.tree.map(lambda leaf: leaf[positions], self.rows), "weight": weight}

    def training(self, batch_size: int, seed: int | str, start: int) -> Iterator[Batch]:
        """As `tlx.stream.training`."""
        positions, ones = order(len(self), batch_size, seed), np.ones(batch_size, np.float32)
        for step in range(start, 2**62):
            yield self.at(positions(step), ones)

    def evaluation(self, batch_size: int) -> Iterator[Batch]:
        """As `tlx.stream.evaluation`."""
        for first in range(0, len(self), batch_size):
            positions = np.arange(first, first + batch_size)
            weight = (positions < len(self)).astype(np.float32)
            yield self.at(np.minimum(positions, len(self) - 1), weight)

    def examples(self) -> Examples:
        """All of them at once, as an exact solver wants them."""
        rest = {k: jnp.asarray(v) for k, v in self.rows.items() if k not in ("prefix", "image")}
        rest["weight"] = jnp.ones(len(self))
        features = jax.tree.map(jnp.asarray, self.rows["prefix"].features)
        height, width = self.rows["image"].shape[1:3]
        return Examples(features, rest, (height, width))


def table(
    model: Model, variables: Variables, batches: Iterable[Batch], features: Iterable[str]
) -> Table:
    """What the frozen stages of `model` say of every example, with the named features only."""
    kept = frozenset(features)

    @jax.jit
    def prefix(variables: Variables, image: Any) -> Prefix:
        found = model.prefix(*variables, image, rng=jax.random.key(0))
        return Prefix(found.carry, {k: v for k, v in found.features.items() if k in kept})

    parts = []
    for batch in batches:
        real = np.flatnonzero(np.asarray(batch["weight"]))
        found = {**batch, "prefix": prefix(variables, batch["image"])}
        parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[real], found))
    return Table(jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts))


def size(model: Model, variables: Variables, batch: Batch, features: Iterable[str]) -> float:
    """Bytes that an example takes in a table."""
    kept = frozenset(features)

    def prefix(params: Params, state: State, image: Any) -> Prefix:
        return model.prefix(params, state, image, rng=jax.random.key(0))

    shapes = jax.eval_shape(prefix, *variables, batch["image"])
    arrays = [v for k, v in shapes.features.items() if k in kept]
    arrays += [*jax.tree.leaves(shapes.carry), batch["image"]]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in arrays) / len(batch["image"])
