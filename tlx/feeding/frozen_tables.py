"""Which tables a phase gets, and what a user is told of them.

A phase that reads its pictures again and again behind a frozen prefix has what that prefix says of
them computed once, in memory or in files as the run file allows. Augmented pictures change at every
step: of those, only as many views as the run file asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from tlx.assemble import Experiment
from tlx.cache import Order, Recipe, ordered
from tlx.data.moved_targets import spatial_targets
from tlx.data.shown import noun_of
from tlx.data.splits import Subset
from tlx.devices import hosts, mesh
from tlx.devices.reads import reads
from tlx.evaluate import summable
from tlx.extension import needed_features
from tlx.feeding.cache_store import Budget, Kept, Store
from tlx.objective import Objective
from tlx.planning import batch_sizes
from tlx.planning.plan import Planned
from tlx.protocols import Augmentation
from tlx.quantities import OF_FEATURES
from tlx.stream import WHOLE, evaluation
from tlx.types import Batch, Variables

GB = 2**30


def host_batches(
    experiment: Experiment, subset: Subset, size: int, own: slice = WHOLE
) -> Iterator[Batch]:
    """A split's batches on the host, every example once; of each batch the rows `own`."""
    return evaluation(subset, experiment.collate, batch_size=size, own=own)


def wants(experiment: Experiment, planned: Planned) -> bool:
    """Whether a phase runs a frozen prefix over the same pictures again and again."""
    prefix = planned.model.caches and experiment.config.cache_gb > 0
    return prefix and again(experiment, planned)


def again(experiment: Experiment, planned: Planned) -> bool:
    """Whether a phase sees the same training pictures again and again."""
    seen = planned.phase.steps * experiment.config.batch_size
    return seen > len(experiment.splits.train)


def fed(experiment: Experiment) -> dict[str, Subset]:
    """The splits that a phase reads, by the name of what they are to it."""
    parts, domain = experiment.splits, experiment.domain
    found = {"train": parts.train, "val": parts.val}
    return found if domain is None else {**found, "domain": domain.train}


def hint(experiment: Experiment, planned: Planned) -> str:
    """What a user could do so that more is computed once; '' where there is nothing to say."""
    config, count = experiment.config, len(experiment.splits.train)
    noun = noun_of(experiment.info)
    if not experiment.augmentations or not wants(experiment, planned):
        return ""
    if not config.cache_views:
        return (
            f"{_what(planned)[0].upper()}{_what(planned)[1:]} of augmented {noun}s is computed "
            f"anew at every step of {planned.phase.name}. cache_views = K computes it once for K "
            f"versions of each {noun} instead."
        )
    epochs = planned.phase.steps * config.batch_size / count
    if epochs <= config.cache_views:
        return (
            f"cache_views = {config.cache_views} saves nothing in {planned.phase.name}, which sees "
            f"each {noun} {epochs:.3g} times."
        )
    return ""


def kept_tables(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    objective: Objective,
    store: Store,
    tell: Callable[[str], None],
) -> dict[str, Kept]:
    """One for each split that the phase reads again and again; none where that does not pay, does
    not fit, or is not true because the pictures are augmented. `objective` is what the phase's
    steps minimise, `tell` hears what a user should know."""
    if not wants(experiment, planned):
        return {}
    if said := hint(experiment, planned):
        tell(said)
        return {}
    config = experiment.config
    pictures = _pictures_are_read(experiment, planned, objective)
    orders = {
        name: order_of(experiment, planned, variables, subset, pictures, augment=name != "val")
        for name, subset in fed(experiment).items()
    }
    budget = Budget(config.cache_gb * GB, config.cache_disk_gb * GB)
    kept = store.tables(orders, budget, tell)
    if hosts.anywhere(not kept):  # a full disk: all processes go on in the same way
        kept = {}
    needs = sum(order.nbytes for order in orders.values())
    if kept:
        tell(_said(kept, planned, experiment))
    elif needs > max(budget):
        tell(
            f"{_what(planned)} of the {noun_of(experiment.info)}s is computed anew at every step "
            f"of {planned.phase.name}: {needs / GB:,.1f} GB are more than cache_gb = "
            f"{config.cache_gb:g} (memory) and cache_disk_gb = {config.cache_disk_gb:g}."
        )
    return kept


def order_of(
    experiment: Experiment,
    planned: Planned,
    variables: Variables,
    subset: Subset,
    pictures: bool,
    *,
    augment: bool = False,
    features: frozenset[str] | None = None,
) -> Order:
    """What a phase's frozen prefix says of a split, to be computed."""
    config, info = experiment.config, experiment.info
    views = bool(augment and experiment.augmentations and config.cache_views)
    # What mixes pictures is refused beside `cache_views`.
    singles = tuple(a for a in experiment.augmentations if isinstance(a, Augmentation))
    recipe = Recipe(
        planned.model,
        features if features is not None else wanted(experiment, planned),
        pictures,
        singles if views else (),
        (config.cache_views or 1) if views else 1,
        config.seed,
        spatial_targets(info),
    )
    fingerprint = repr((info.fingerprint, experiment.collate))
    # On one device, and of several processes in each: all of them read rows from everywhere in it.
    numbers = mesh.alone(variables, experiment.mesh)
    return ordered(
        recipe, numbers, subset, lambda part, size: host_batches(experiment, part, size),
        fingerprint,
    )  # fmt: skip


def wanted(experiment: Experiment, planned: Planned) -> frozenset[str]:
    """The features behind the prefix that anybody reads."""
    model = planned.model
    words = frozenset[str]().union(*(term.words for term in experiment.terms))
    if model.head is None or words & OF_FEATURES:
        return frozenset(spec.name for spec in model.backbone.features)
    if model.extension is None:
        return frozenset((*model.head.needs, *planned.phase.reads))
    return needed_features(model, experiment.variables, _one(experiment), planned.phase.reads)


def _pictures_are_read(experiment: Experiment, planned: Planned, objective: Objective) -> bool:
    """Whether anybody needs the pictures once the prefix of them is known."""
    if planned.phase.norm == "recompute":
        return True
    model, own = planned.model, experiment.variables
    constants, size = experiment.constants, experiment.config.batch_size
    domain = experiment.domain is not None
    batch = batch_sizes.shapes(experiment.step, size, _one(experiment), domain)

    def passes(inputs: Any, batch: Batch) -> Any:
        found = model.frozen_features(own, batch, rng=jax.random.key(0))
        known = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), found)
        seen = batch._replace(inputs=inputs, frozen=known)
        if batch.domain is not None:
            seen = seen._replace(domain=batch.domain._replace(inputs=inputs, frozen=known))
        rng, half = jax.random.key(0), jnp.float32(0.5)
        step = objective(own.params, own.state, seen, constants, rng=rng, progress=half)
        passed = summable(model, planned.phase.forward)(own, seen, constants)
        return step, passed

    read, _ = reads(passes, batch.inputs, batch)
    return any(jax.tree.leaves(read))


def _one(experiment: Experiment) -> Batch:
    """A batch of the first training example."""
    few = experiment.splits.train
    (batch,) = host_batches(experiment, replace(few, indices=few.indices[:1]), 1)
    return batch


def _what(planned: Planned) -> str:
    whole = planned.model.frozen == planned.model.depth
    return "What the backbone says" if whole else "What the frozen stages say"


def _said(kept: Mapping[str, Kept], planned: Planned, experiment: Experiment) -> str:
    """What is kept, how large, where, and what that saves."""
    size = sum(found.table.nbytes for found in kept.values()) / 2**20
    many = sum(len(found.table) for found in kept.values())
    views = max(found.table.views for found in kept.values())
    new = sum(found.seconds for found in kept.values() if not found.reused)
    old = sum(found.seconds for found in kept.values() if found.reused)
    folders = [found.folder.parent for found in kept.values() if found.folder]
    where = f"in {folders[0]}" if folders else "in memory"
    epochs = planned.phase.steps / experiment.steps_per_epoch
    each = f"{many:,} {noun_of(experiment.info)}s" + (
        f" ({views} views of each to train on)" if views > 1 else ""
    )
    how = "was computed once" if new else "had been computed and is used again"
    took = f"{new:.2g} s" if new else f"saving {old:.2g} s"
    if new and old:
        took += f", another {old:.2g} s saved by what was there"
    return (
        f"{_what(planned)} of {each} {how} for {planned.phase.name} ({size:,.1f} MB {where}; "
        f"{took}), not in each of {epochs:,.3g} epochs."
    )
