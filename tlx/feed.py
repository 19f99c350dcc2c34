"""What a phase is fed: pictures from their streams, or what its frozen prefix says of them.

A prefix that neither moves nor sees augmented pictures is computed once, when the phase begins,
if what it says fits into `cache_gb`. Training then costs what moves and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import cache
from tlx.assemble import Experiment, as_arrays
from tlx.cache import Table
from tlx.plan import Planned
from tlx.splits import Subset
from tlx.stream import evaluation, training
from tlx.types import Batch, Variables

OF_FEATURES = frozenset(
    {"features", "source_features", "source_outputs", "source_head_outputs", "domain_features"}
)
"""Words that may read a feature which the head does not need."""


class Feed(NamedTuple):
    """`batches`: endless training batches from a step on, stacked as a step wants them; `train` and
    `val`: every example once; `sharing`: sources that a batch's prefix serves; `note`: what was
    computed ahead, if anything."""

    batches: Iterator[Batch]
    train: Callable[[], Iterable[Batch]]
    val: Callable[[], Iterable[Batch]]
    sharing: frozenset[str] = frozenset()
    note: str = ""


def eval_batches(experiment: Experiment, subset: Subset) -> Iterator[Batch]:
    """A split's batches on the device, as evaluation wants them."""
    return map(
        as_arrays,
        evaluation(
            subset,
            batch_size=_eval_size(experiment, len(subset)),
            canvas=experiment.canvas,
            inputs=experiment.model.inputs,
        ),
    )


@contextmanager
def feeding(
    experiment: Experiment, planned: Planned, variables: Variables, start: int
) -> Iterator[Feed]:
    """The feed of a phase from step `start` on; `variables` are those that the network runs with
    when the phase begins."""
    tables = _tables(experiment, planned, variables)
    if tables:
        with streams(experiment, start, tables) as batches:
            yield Feed(
                batches,
                lambda: _from(tables["train"], experiment),
                lambda: _from(tables["val"], experiment),
                _sharing(experiment, planned, variables),
                _said(tables, planned),
            )
    else:
        parts = experiment.splits
        with streams(experiment, start, {}) as batches:
            yield Feed(
                batches,
                lambda: eval_batches(experiment, parts.train),
                lambda: eval_batches(experiment, parts.val),
            )


def solving(experiment: Experiment, planned: Planned, variables: Variables) -> tuple[Table, Table]:
    """The training and the validation split behind a frozen backbone, for an exact solver."""
    head = experiment.model.head
    needs = head.needs if head is not None else ()
    model, parts = planned.model, experiment.splits
    train, val = (
        cache.table(model, variables, eval_batches(experiment, part), needs)
        for part in (parts.train, parts.val)
    )
    return train, val


@contextmanager
def streams(
    experiment: Experiment, start: int, tables: dict[str, Table]
) -> Iterator[Iterator[Batch]]:
    """Training batches, with one of the domain in each where there is a domain."""
    seed, size = experiment.config.seed, experiment.config.batch_size
    parts: dict[str, tuple[Subset, int | str]] = {"train": (experiment.splits.train, seed)}
    if experiment.domain is not None:
        parts["domain"] = (experiment.domain.train, f"domain/{seed}")
    opened: dict[str, Any] = {
        name: tables[name].training(size, key, start)
        if name in tables
        else training(
            subset,
            batch_size=size,
            seed=key,
            canvas=experiment.canvas,
            inputs=experiment.model.inputs,
            start=start,
        )
        for name, (subset, key) in parts.items()
    }

    def batches() -> Iterator[Batch]:
        while True:
            batch = dict(next(opened["train"]))
            if "domain" in opened:
                domain = next(opened["domain"])
                batch["domain"] = {key: domain[key] for key in domain if key != "label"}
            yield as_arrays(jax.tree.map(lambda leaf: leaf[None], batch))  # stacked on the host

    try:
        yield batches()
    finally:
        for stream in opened.values():
            stream.close()


def _tables(experiment: Experiment, planned: Planned, variables: Variables) -> dict[str, Table]:
    """One for each split that the phase reads again and again; none where that does not pay, does
    not fit, or is not true because the pictures are augmented."""
    config, model, parts = experiment.config, planned.model, experiment.splits
    again = planned.phase.steps * config.batch_size > len(parts.train)
    if model.frozen == 0 or experiment.augmentations or not again or not config.cache_gb:
        return {}
    words = frozenset().union(*(term.words for term in experiment.terms))
    wanted = {spec.name for spec in model.backbone.features}
    if model.head is not None and not words & OF_FEATURES:
        wanted = set(model.head.needs)
    splits = {"train": parts.train, "val": parts.val}
    if experiment.domain is not None:
        splits["domain"] = experiment.domain.train
    sample = next(eval_batches(experiment, parts.val))
    each = cache.size(model, variables, sample, wanted)
    if each * sum(map(len, splits.values())) > config.cache_gb * 2**30:
        return {}
    return {
        name: cache.table(model, variables, eval_batches(experiment, subset), wanted)
        for name, subset in splits.items()
    }


def _sharing(experiment: Experiment, planned: Planned, variables: Variables) -> frozenset[str]:
    """Sources whose first stages say of a batch exactly what the frozen ones say of it."""
    model, found = planned.model, set()
    batch = next(eval_batches(experiment, experiment.splits.val))

    @jax.jit
    def prefix(numbers: Variables) -> Any:
        return model.prefix(*numbers, batch["image"], rng=jax.random.key(0))

    for name, other in experiment.source_models:
        if (other.backbone, other.inputs) == (model.backbone, model.inputs):
            numbers = experiment.constants.sources[name]
            pairs = zip(
                jax.tree.leaves(prefix(variables)), jax.tree.leaves(prefix(numbers)), strict=True
            )
            if all(np.array_equal(a, b) for a, b in pairs):
                found.add(name)
    return frozenset(found)


def _said(tables: dict[str, Table], planned: Planned) -> str:
    bytes_ = sum(leaf.nbytes for table in tables.values() for leaf in jax.tree.leaves(table.rows))
    whole = planned.model.frozen == planned.model.depth
    what = "the backbone says" if whole else "the frozen stages say"
    many = sum(map(len, tables.values()))
    return (
        f"What {what} of {many:,} pictures was computed once for {planned.phase.name} "
        f"({bytes_ / 2**20:,.1f} MB)."
    )


def _from(table: Table, experiment: Experiment) -> Iterator[Batch]:
    return map(as_arrays, table.evaluation(_eval_size(experiment, len(table))))


def _eval_size(experiment: Experiment, count: int) -> int:
    return min(max(experiment.config.batch_size, 64), count)
