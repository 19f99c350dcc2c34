"""Where tables are kept: in memory, in files beyond that, each within a budget of its own.

One store serves all phases, variants and stages of a study, so that what they have in common is
computed once. What took long enough is kept in the user's cache folder, too, for the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import jax
import numpy as np

from tlx.cache import Order, Table
from tlx.devices.programs import Programs
from tlx.errors import CheckpointError
from tlx.files import cache_files
from tlx.files.cache_files import Stored
from tlx.files.cache_folder import cache_folder
from tlx.types import Batch

WORTH = 1.0
"""Seconds of computing from which on a table that fits into memory is kept for other runs."""


class Budget(NamedTuple):
    """Bytes in memory and on disk, for all tables together."""

    memory: float
    disk: float


class Kept(NamedTuple):
    """A table and how it came about: `seconds` of computing, then or now; `reused` where it was
    there; `folder` where it is read from files."""

    table: Table
    seconds: float
    reused: bool
    folder: Path | None = None


@final
class Store:
    """The tables of a study, by key, and beside them its `programs`; `folder` is that of all tables
    on disk."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "frozen"
        self.programs = Programs()
        self._held: dict[str, Stored] = {}

    def tables(
        self, orders: Mapping[str, Order], budget: Budget, tell: Callable[[str], None]
    ) -> dict[str, Kept]:
        """The tables of a phase, made where they are not there: in memory where all of them fit,
        else in files where all of them fit, else none of them. `tell` hears what went wrong."""
        whole = sum(order.nbytes for order in orders.values())
        if whole <= budget.memory:
            self._make_room(orders, whole, budget.memory)
            return {name: self._in_memory(o, budget, tell) for name, o in orders.items()}
        if whole > budget.disk:
            return {}
        kept = {name: self._in_files(o, budget, tell) for name, o in orders.items()}
        return {name: found for name, found in kept.items() if found} if all(kept.values()) else {}

    def _make_room(self, orders: Mapping[str, Order], whole: float, memory: float) -> None:
        """Forget what was used longest ago until all of a phase fits."""
        mine = {order.key for order in orders.values()}
        others = {
            key: sum(leaf.nbytes for leaf in jax.tree.leaves(held.rows))
            for key, held in self._held.items()
            if key not in mine
        }
        for key in list(others):
            if whole + sum(others.values()) <= memory:
                break
            del others[key], self._held[key]

    def _in_memory(self, order: Order, budget: Budget, tell: Callable[[str], None]) -> Kept:
        held = self._held.pop(order.key, None) or self._read(order, budget, tell, mapped=False)
        if held is not None:
            self._held[order.key] = held  # now the youngest
            return Kept(order.table(held.rows), held.seconds, reused=True)
        began = time.perf_counter()
        rows = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), order.like)
        at = 0
        for part in order.parts():
            count = len(part.index)
            jax.tree.map(partial(_fill, slice(at, at + count)), rows, part)
            at += count
        seconds = time.perf_counter() - began
        self._held[order.key] = Stored(rows, seconds)
        if seconds >= WORTH:
            self._write(order, [rows], lambda: seconds, budget, tell)
        return Kept(order.table(rows), seconds, reused=False)

    def _in_files(self, order: Order, budget: Budget, tell: Callable[[str], None]) -> Kept | None:
        found = self._read(order, budget, tell, mapped=True)
        reused = found is not None
        if found is None:
            began = time.perf_counter()
            self._write(order, order.parts(), lambda: time.perf_counter() - began, budget, tell)
            found = self._read(order, budget, tell, mapped=True)
        if found is None:
            return None
        return Kept(order.table(found.rows), found.seconds, reused, self.folder / order.key)

    def _read(
        self, order: Order, budget: Budget, tell: Callable[[str], None], *, mapped: bool
    ) -> Stored | None:
        if not budget.disk:
            return None
        try:
            return cache_files.stored(self.folder, order.key, order.like, mapped=mapped)
        except (CheckpointError, OSError, ValueError, KeyError) as error:
            cache_files.dropped(self.folder, order.key)
            tell(f"What was kept in the cache is damaged and computed anew: {error}")
            return None

    def _write(
        self,
        order: Order,
        parts: Iterable[Batch],
        seconds: Callable[[], float],
        budget: Budget,
        tell: Callable[[str], None],
    ) -> None:
        try:
            if cache_files.room(self.folder, order.nbytes, budget.disk):
                cache_files.written(self.folder, order.key, parts, seconds)
        except OSError as error:
            tell(f"Nothing could be kept in {self.folder}: {error}")


def _fill(at: slice, into: np.ndarray, rows: np.ndarray) -> None:
    into[at] = rows
