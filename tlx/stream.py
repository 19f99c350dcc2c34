"""From a subset of a split to batches.

A training batch is a pure function of (data, seed, step): always full, wrapping around, in a new
order every epoch. Evaluation sees every example once, in order; the last batch is filled up with
examples of weight 0, so that every batch has one shape. Batches are made ahead, in threads, while
the device computes (grain underneath).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import grain
import numpy as np

from tlx.data.collate import Collate
from tlx.data.splits import Subset, shuffled
from tlx.errors import DataError
from tlx.types import Batch

Each = TypeVar("Each")
Batches: TypeAlias = Generator[Batch, None, None]
"""Batches as they are made; `close()` stops the threads that make them ahead."""
WHOLE = slice(None)
"""All rows of a batch."""
ENDLESS = 2**62
"""More steps than there will be."""


def training(
    subset: Subset,
    collate: Collate,
    *,
    batch_size: int,
    seed: int | str,
    balanced: bool = False,
    start: int = 0,
    own: slice = WHOLE,
    threads: int | None = None,
) -> Batches:
    """The endless batches from step `start` on: what an uninterrupted stream yields at that step.

    Each holds what `collate` makes of its examples, all of weight 1. `balanced`: every class is
    drawn equally often, whatever it has. Only the rows `own` of each are read and given. `close()`
    stops the threads. Raises DataError for an empty subset and for examples that do not go
    together."""
    if len(subset) == 0:
        raise DataError(f"There is nothing to train on: the subset of {subset.name!r} is empty.")
    count = len(subset)
    weight = np.ones(batch_size, np.float32)

    drawn = order(subset.labels if balanced else count, batch_size, seed)

    def at(step: int) -> Batch:
        return collate(subset, drawn(step).positions[own], weight[own])

    return _ahead(grain.MapDataset.range(start, ENDLESS).map(at), threads)


class Drawn(NamedTuple):
    """Which examples a batch holds, `positions` (B,), and how often each was drawn before,
    `epochs` (B,)."""

    positions: np.ndarray
    epochs: np.ndarray


def order(of: int | np.ndarray, batch_size: int, seed: int | str) -> Callable[[int], Drawn]:
    """Step -> what is drawn of so many examples: every one once an epoch, wrapping around, in a new
    order each time. Of labels (N,), every class once a round in a new order each time, and within a
    class every example in the same way: class-balanced sampling (Kang et al. 2020,
    arXiv:1910.09217, section 3.1) without its chance."""
    if isinstance(of, np.ndarray):
        return _by_class(of, batch_size, seed)

    # Not grain's own shuffle: its time per example grows as the subset shrinks, to milliseconds
    # in a few-shot subset.
    @lru_cache(maxsize=4)
    def shuffle(epoch: int) -> np.ndarray:
        return shuffled(of, f"order/{seed}/{epoch}")

    def at(step: int) -> Drawn:
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), of)
        each = [shuffle(e)[places[epochs == e]] for e in range(epochs[0], epochs[-1] + 1)]
        return Drawn(np.concatenate(each), epochs)

    return at


def _by_class(labels: np.ndarray, batch_size: int, seed: int | str) -> Callable[[int], Drawn]:
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    @lru_cache(maxsize=4 + batch_size // len(members))
    def classes(turn: int) -> np.ndarray:
        return shuffled(len(members), f"classes/{seed}/{turn}")

    @lru_cache(maxsize=2 * len(members))
    def shuffle(which: int, epoch: int) -> np.ndarray:
        return shuffled(len(members[which]), f"order/{seed}/{which}/{epoch}")

    def one(number: int) -> tuple[int, int]:
        turn, place = divmod(number, len(members))
        which = int(classes(turn)[place])
        epoch, place = divmod(turn, len(members[which]))
        return int(members[which][shuffle(which, epoch)[place]]), epoch

    def at(step: int) -> Drawn:
        found = [one(number) for number in range(step * batch_size, (step + 1) * batch_size)]
        return Drawn(*np.asarray(found).T)

    return at


def evaluation(
    subset: Subset,
    collate: Collate,
    *,
    batch_size: int,
    own: slice = WHOLE,
    threads: int | None = None,
) -> Batches:
    """Every example once, in order, in batches like those of `training`; in the last one the final
    example is repeated with weight 0 until the batch is full. An empty subset has no batches."""
    count = len(subset)

    def at(step: int) -> Batch:
        positions = np.arange(step * batch_size, (step + 1) * batch_size)[own]
        weight = (positions < count).astype(np.float32)
        return collate(subset, np.minimum(positions, count - 1), weight)

    return _ahead(grain.MapDataset.range(-(-count // batch_size)).map(at), threads)


@contextmanager
def closing_batches(batches: Iterable[Each]) -> Iterator[Iterator[Each]]:
    """Batches to go through in the block. Where they are made ahead, their threads end with it,
    however it ends: an error's traceback would keep them otherwise."""
    each = iter(batches)
    try:
        yield each
    finally:
        if isinstance(each, Generator):
            each.close()


def _ahead(steps: Any, threads: int | None) -> Batches:
    threads = threads or min(os.cpu_count() or 1, 16)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)
    batches = iter(steps.to_iter_dataset(options))
    try:
        yield from batches
    finally:
        batches.close()
