"""What a phase is fed: pictures from their streams, or what its frozen prefix says of them.

Where the prefix is known beforehand (`tlx.feeding.frozen_tables`) training costs what moves and
nothing else. Where what moves holds no convolution, or the device runs loops of them well, many
steps are one call: their rows lie on the device and batches only number them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx.assemble import Experiment
from tlx.cache import Table
from tlx.data.shown import noun_of
from tlx.data.splits import Subset
from tlx.devices import mesh
from tlx.feeding import device_rows
from tlx.feeding.cache_store import Budget, Store
from tlx.feeding.frozen_tables import GB, host_batches, kept_tables, order_of, wants
from tlx.objective import Objective
from tlx.planning.batch_sizes import smallest
from tlx.planning.plan import Planned
from tlx.stream import closing_batches, training
from tlx.types import Batch, FrozenFeatures, RowBatch, Variables

MOST = 64
"""Steps in one call: enough that the call costs nothing, few enough that a signal is soon heard."""
STACKED = 2**26
"""Bytes of batches that are stacked on the host for one call."""
ON_DEVICE = 2**28
"""Bytes of rows that are copied to the device for a whole phase."""
AT_ONCE = 1024
"""Rows that a head alone is evaluated on at a time: more than a network's pictures."""


class Feed(NamedTuple):
    """`batches`: endless training batches from a step on, stacked as a step wants them; `train` and
    `val`: every example once; `sharing`: sources that `frozen` of a batch serves, too; `rows`: what
    batches number, for `Constants`; `augmented`: whether that was augmented beforehand; `cached`:
    whether what is fed is what the frozen stages give for pictures, and no picture."""

    batches: Iterator[Batch | RowBatch]
    train: Callable[[], Iterable[Batch]]
    val: Callable[[], Iterable[Batch]]
    sharing: frozenset[str] = frozenset()
    rows: Mapping[str, Batch] = {}
    augmented: bool = False
    cached: bool = False

    def objective(self, objective: Objective) -> Objective:
        """What is minimised, with batches like these."""
        return _fed(objective, self.sharing, self.augmented)


def eval_batches(experiment: Experiment, subset: Subset) -> Iterator[Batch]:
    """A split's batches on the device, as evaluation wants them."""
    size = _eval_size(experiment, len(subset))
    own = mesh.own(size, experiment.mesh)
    with closing_batches(host_batches(experiment, subset, size, own)) as batches:
        yield from map(experiment.shared, batches)


@contextmanager
def feeding(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    start: int,
    *,
    every: int,
    store: Store,
    tell: Callable[[str], None],
) -> Iterator[Feed]:
    """The feed of a phase from step `start` on; `variables` are those that the network runs with
    when the phase begins. Batches of several steps end where a multiple of `every` does. `tell`
    hears what was computed ahead, or could be."""
    parts = experiment.splits
    sharing = _sharing(experiment, planned, variables)
    drawn = bool(experiment.augmentations and experiment.config.cache_views)
    objective = _fed(experiment.objective(planned), sharing, drawn)
    kept = kept_tables(experiment, planned, variables, objective, store, tell)
    found = {name: one.table for name, one in kept.items()}
    if not found and (shown := device_rows.tables(experiment, planned, ON_DEVICE)):
        megabytes = sum(table.nbytes for table in shown.values()) / 2**20
        what = f"All {noun_of(experiment.info)}s lie on the device ({megabytes:,.1f} MB)"
        tell(f"{what}, and batches number them.")
        batches, rows = _resident(experiment, planned, start, every, shown)
        yield Feed(
            batches,
            lambda: from_table(shown["train"], experiment),
            cache(lambda: tuple(from_table(shown["val"], experiment))),
            rows=rows,
        )
        return
    if not found:
        with streams(experiment, start, {}) as batches:
            yield Feed(
                batches,
                lambda: eval_batches(experiment, parts.train),
                lambda: eval_batches(experiment, parts.val),
            )
        return
    whole = planned.model.frozen == planned.model.depth
    fed = {name: table.nbytes for name, table in found.items() if name != "val"}
    small = not any(one.folder for one in kept.values()) and sum(fed.values()) <= ON_DEVICE
    begun = Feed(
        iter(()),
        lambda: (
            eval_batches(experiment, parts.train)
            if drawn
            else from_table(found["train"], experiment)
        ),
        lambda: from_table(found["val"], experiment),
        sharing,
        {},
        drawn,
        cached=True,
    )
    if whole and found["val"].nbytes <= ON_DEVICE:
        val = cache(lambda: tuple(from_table(found["val"], experiment, AT_ONCE)))
        begun = begun._replace(val=val)
    looped = whole or device_rows.loops_well()
    if looped and small:
        batches, rows = _resident(experiment, planned, start, every, found)
        yield begun._replace(batches=batches, rows=rows)
    else:
        one_batch = found["train"].nbytes / len(found["train"].rows.index)
        most = max(1, min(MOST, int(STACKED / (one_batch * experiment.config.batch_size))))
        calls = lengths(planned, start, every, most) if looped else repeat(1)
        with streams(experiment, start, found, calls) as batches:
            yield begun._replace(batches=batches)


def _resident(
    experiment: Experiment, planned: Planned, start: int, every: int, tables: Mapping[str, Table]
) -> tuple[Iterator[RowBatch], Mapping[str, Batch]]:
    """Batches of numbers alone, many steps a call, and the rows that they number, on the device."""
    fed = {name: table for name, table in tables.items() if name != "val"}
    rows = jax.device_put({name: table.rows for name, table in fed.items()})
    batches = _numbered(experiment, start, fed, lengths(planned, start, every, MOST))
    return batches, mesh.gathered(rows, experiment.mesh)


def lengths(planned: Planned, start: int, every: int, most: int) -> Iterator[int]:
    """How many steps each call makes from step `start` on: they end at multiples of `every` and
    with the phase, and where they end is the same wherever they begin."""
    step = start
    while step < planned.stop:
        begin = max(planned.start, step // every * every)
        until = min(planned.stop, (step // every + 1) * every)
        stop = min(until, begin + ((step - begin) // most + 1) * most)
        yield stop - step
        step = stop


def _numbered(
    experiment: Experiment, start: int, tables: Mapping[str, Table], calls: Iterable[int]
) -> Iterator[RowBatch]:
    """Training batches that only number their rows, for several steps each."""
    size = experiment.config.batch_size
    numbers = {
        name: table.numbers(size, _order(experiment, name), _balanced(experiment, name))
        for name, table in tables.items()
    }
    step, own = start, mesh.own(size, experiment.mesh)
    for many in calls:
        rows = {
            name: np.stack([of(step + i)[own] for i in range(many)]).astype(np.int32)
            for name, of in numbers.items()
        }
        weight = np.ones((many, size), np.float32)[:, own]
        batch = RowBatch(rows["train"], weight, rows.get("domain"))
        yield experiment.shared(batch, axis=1)
        step += many


def solving(
    experiment: Experiment, planned: Planned, variables: Variables, store: Store
) -> tuple[Table, Table]:
    """The training and the validation split behind a frozen backbone, for an exact solver."""
    config, head = experiment.config, experiment.model.head
    needs = frozenset(head.needs if head is not None else ())
    orders = {
        name: order_of(experiment, planned, variables, subset, False, features=needs)
        for name, subset in (("train", experiment.splits.train), ("val", experiment.splits.val))
    }
    disk = config.cache_disk_gb * GB if config.cache_gb else 0
    kept = store.tables(orders, Budget(np.inf, disk), lambda _: None)
    return kept["train"].table, kept["val"].table


@contextmanager
def streams(
    experiment: Experiment,
    start: int,
    tables: Mapping[str, Table],
    calls: Iterable[int] | None = None,
) -> Iterator[Iterator[Batch]]:
    """Training batches, with one of the domain in each where there is a domain; `calls` says how
    many steps' are stacked each time, 1 where None."""
    size = experiment.config.batch_size
    parts = {"train": experiment.splits.train}
    if experiment.domain is not None:
        parts["domain"] = experiment.domain.train
    own = mesh.own(size, experiment.mesh)
    opened: dict[str, Any] = {
        name: tables[name].training(
            size, _order(experiment, name), start, own, _balanced(experiment, name)
        )
        if name in tables
        else training(
            subset,
            experiment.collate,
            batch_size=size,
            seed=_order(experiment, name),
            balanced=_balanced(experiment, name),
            start=start,
            own=own,
        )
        for name, subset in parts.items()
    }

    def one() -> Batch:
        batch = next(opened["train"])
        if "domain" not in opened:
            return batch
        return batch._replace(domain=next(opened["domain"])._replace(targets={}))

    def batches() -> Iterator[Batch]:
        for many in repeat(1) if calls is None else calls:
            each = [one() for _ in range(many)]
            yield experiment.shared(jax.tree.map(_stacked, *each), axis=1)

    try:
        yield batches()
    finally:
        for stream in opened.values():
            stream.close()


def _stacked(*leaves: np.ndarray) -> np.ndarray:
    """On the host; a view of a lone one."""
    return leaves[0][None] if len(leaves) == 1 else np.stack(leaves)


def _order(experiment: Experiment, name: str) -> int | str:
    """What the order of a stream is drawn from."""
    seed = experiment.config.seed
    return seed if name == "train" else f"{name}/{seed}"


def _balanced(experiment: Experiment, name: str) -> bool:
    """Whether a stream draws every class equally often."""
    return name == "train" and experiment.config.data.sampling == "balanced"


def _fed(objective: Objective, sharing: frozenset[str], drawn: bool) -> Objective:
    return replace(
        objective, sharing=sharing, augmentations=() if drawn else objective.augmentations
    )


def tables(
    experiment: Experiment, planned: Planned, variables: Variables, store: Store | None = None
) -> dict[str, Table]:
    """One for each split that the phase reads again and again; none where that does not pay, does
    not fit, or is not true because the pictures are augmented."""
    objective = experiment.objective(planned)
    kept = kept_tables(experiment, planned, variables, objective, store or Store(), lambda _: None)
    return {name: one.table for name, one in kept.items()}


def table_of(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    subset: Subset,
    store: Store | None = None,
) -> Table:
    """What a phase's frozen prefix says of another split, without its pictures."""
    order = {"other": order_of(experiment, planned, variables, subset, False)}
    kept = (store or Store()).tables(order, Budget(np.inf, 0), lambda _: None)
    return kept["other"].table


def from_table(table: Table, experiment: Experiment, least: int = 64) -> Iterator[Batch]:
    """Its batches on the device, as evaluation wants them."""
    size = _eval_size(experiment, len(table), least)
    return map(experiment.shared, table.evaluation(size, mesh.own(size, experiment.mesh)))


def _sharing(experiment: Experiment, planned: Planned, variables: Variables) -> frozenset[str]:
    """Sources whose first stages say of a batch exactly what the frozen ones say of it."""
    model, found = planned.model, set()
    if not experiment.source_models or not wants(experiment, planned):
        return frozenset()
    batch = next(eval_batches(experiment, experiment.splits.val))

    @jax.jit
    def frozen(numbers: Variables, batch: Batch) -> FrozenFeatures:
        return model.frozen_features(numbers, batch, rng=jax.random.key(0))

    def said(numbers: Variables) -> list[Any]:
        return jax.tree.leaves(mesh.fetched(frozen(numbers, batch)))

    for name, other in experiment.source_models:
        if (other.backbone, other.inputs) == (model.backbone, model.inputs):
            numbers = mesh.gathered(experiment.constants.sources[name], experiment.mesh)
            pairs = zip(said(variables), said(numbers), strict=True)
            if all(np.array_equal(a, b) for a, b in pairs):
                found.add(name)
    return frozenset(found)


def _eval_size(experiment: Experiment, count: int, least: int = 64) -> int:
    """Examples at a time of `count`: so many that those of the last batch, too, are enough for a
    strategy that compares them with each other."""
    wanted = min(max(experiment.config.batch_size, least), count)
    enough = smallest(experiment.strategy)
    sizes = (mesh.rounded(size, experiment.mesh) for size in range(wanted, enough - 1, -1))
    first = mesh.rounded(wanted, experiment.mesh)
    return next((size for size in sizes if not 0 < count % size < enough), first)
