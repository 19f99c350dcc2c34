"""One update from parts of a batch: as much memory as a part takes, the gradient of the whole.

Weighted as the whole batch weighs its examples, so that the parts' gradients are those of terms of
one sum. The state goes through the parts in turn: batch norm normalises by each part and moves its
running statistics once for each, as PyTorch's does between two steps of its optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import Batch, PyTree, State
from tlx_steps.repeated import repeated


class Slope(Protocol):
    """A pass forward and back over a batch."""

    def __call__(
        self, state: State, batch: Batch, *, rng: Array, total: Array | None
    ) -> tuple[PyTree, State, Mapping[str, Any]]:
        """(gradient, state, metrics); `total` as for `tlx.objective.Objective`."""
        ...


def accumulated(
    slope: Slope, count: int, moving: PyTree, state: State, batch: Batch, *, rng: Array
) -> tuple[PyTree, State, Mapping[str, Any]]:
    """As one call of `slope` with the whole batch, from `count` equal parts of it.

    Each part has random numbers of its own. Metrics are means over the parts, sums where they are
    the head's `measure`."""
    total = jnp.maximum(batch.weight.sum(), 1) / count

    def one(carry: tuple[PyTree, State], each: tuple[Array, Batch]) -> tuple[Any, Any]:
        gradient, state = carry
        number, part = each
        more, state, metrics = slope(state, part, rng=jax.random.fold_in(rng, number), total=total)
        return (jax.tree.map(jnp.add, gradient, more), state), metrics

    nothing = jax.tree.map(jnp.zeros_like, moving)
    parts = jnp.arange(count), parted(batch, count)
    (gradient, state), found = repeated(one, (nothing, state), parts)
    metrics = {
        name: jax.tree.map(lambda leaf: leaf.sum(0), value) if name == "measure" else value.mean(0)
        for name, value in found.items()
    }
    return jax.tree.map(lambda leaf: leaf / count, gradient), state, metrics


def parted(batch: Batch, count: int) -> Batch:
    """(count, B/count, ...) of every entry: part k has the examples k, k + count and so on, so that
    on several devices each keeps those that it has."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]).swapaxes(0, 1), batch)
