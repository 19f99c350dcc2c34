"""Many runs in one compiled program: the same phases with other rates, weights and seeds.

Where all that moves stands behind a cached prefix, runs differ in a few numbers. They are stacked
and every update is computed for all of them at once (`jax.vmap`), reading each picture's row from
one table. What is shared, the frozen part of the network above all, is there once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx import trees
from tlx.assemble import Experiment
from tlx.cache import Table
from tlx.devices.rows import taken
from tlx.evaluate import added, metrics_of, summable
from tlx.feeding import feed
from tlx.feeding.cache_store import Store
from tlx.feeding.feed import eval_batches
from tlx.planning.plan import Planned
from tlx.protocols import Averages, Finishes, Learns, Prepares, Records, Reparametrises
from tlx.training.best_step import ahead
from tlx.training.split_metrics import evaluated
from tlx.training.step_program import build_step
from tlx.training.train_state import optimizer_state
from tlx.types import PyTree, TrainState, Variables


class Together(NamedTuple):
    """What became of seeds x points: `val` and `steps` of the best evaluation of each, and the
    leaves that differ between them, (S,P,...) each; `finite`: (S,P) bool."""

    experiment: Experiment
    best: PyTree
    shared: PyTree
    val: list[list[dict[str, float]]]
    best_step: np.ndarray
    finite: np.ndarray

    def variables(self, seed: int, point: int) -> Variables:
        """Those of one run, by its numbers."""
        own = jax.tree.map(lambda leaf: leaf[seed, point], self.best)
        return Variables(*trees.merge(own, self.shared))


class Stacked(NamedTuple):
    """The part of a training state that differs between runs, (S,P,...)."""

    varies: PyTree
    opt_state: PyTree
    step: Array
    rng: Array


def reason(experiment: Experiment, seeds: Sequence[int]) -> str:
    """Why runs of this experiment cannot share a program; '' where they can."""
    strategy, terms = experiment.strategy, experiment.terms
    alone = isinstance(strategy, Averages | Finishes | Reparametrises)
    if alone or experiment.model.extension is not None:
        return f"the strategy {experiment.config.strategy.name!r} works on one run at a time"
    if experiment.config.optimizer.on_nan != "stop":
        return "updates that are left out ([optimizer] on_nan) are counted for one run at a time"
    if experiment.domain is not None:
        return "a second stream of pictures is read"
    if experiment.metrics:
        return f"the metric {experiment.metrics[0].name!r} is computed of one run at a time"
    for planned in experiment.phases:
        if planned.phase.solve is not None:
            return f"the head of {planned.phase.name} is solved for, one run at a time"
        if planned.model.frozen == 0:
            return f"{planned.phase.name} trains the whole network"
        if planned.model.frozen < planned.model.depth and jax.default_backend() == "cpu":
            return (
                f"{planned.phase.name} trains stages of the backbone, which a CPU computes faster "
                f"one after another"
            )
        if planned.phase.norm == "recompute":
            return f"{planned.phase.name} computes statistics anew at every evaluation"
    if experiment.augmentations:
        return "pictures are augmented, so that nothing can be computed once"
    if not experiment.config.cache_gb:
        return "cache_gb is 0"
    if len(seeds) > 1:
        if any(isinstance(t.divergence, Learns | Prepares | Records) for t in terms):
            return "a divergence prepares itself with the seed"
        if experiment.setup is not None:
            return "the strategy looks at the numbers of each seed before it plans"
        if any(trees.part(path) == "backbone" for path in _fresh_paths(experiment)):
            return "parts of the backbone start at random with each seed"
        if any(trees.part(path) == "strategy" for path in _flat(experiment.variables)):
            return "the strategy starts at random with each seed"
    return ""


def prefix(experiment: Experiment, store: Store) -> dict[str, Table]:
    """What the frozen prefix says of training and validation, computed where it is not there."""
    return feed.tables(experiment, experiment.phases[0], experiment.variables, store)


def train_together(
    experiment: Experiment,
    hyper: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    store: Store,
) -> Together:
    """Train every point (its `Constants.hyper`) with every seed, as `tlx.loop.train` trains one."""
    tables = prefix(experiment, store)
    begin = _begin(experiment, seeds)
    per_seed, shared = trees.partition(tuple(begin), _mask(experiment, seeds))
    shared = jax.tree.map(lambda leaf: leaf[0], shared)
    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), *hyper)
    count = len(seeds), len(hyper)

    def spread(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf[:, None], (count[0], count[1], *leaf.shape[1:]))

    stacked = Stacked(
        jax.tree.map(spread, per_seed), (), jnp.zeros(count, jnp.int32),
        spread(jax.vmap(lambda key: jax.random.fold_in(key, 2))(_keys(seeds))),
    )  # fmt: skip
    keeper = _Keeper(experiment, count, stacked.varies)
    for planned in experiment.phases:
        stacked = _phase(experiment, planned, stacked, shared, points, tables, seeds, keeper)
    final, val = experiment.final, tables["val"]
    if final.model != experiment.phases[-1].model:
        val = feed.table_of(experiment, final, experiment.variables, experiment.splits.val, store)
    best = evaluated_together(experiment, final, keeper.best, shared, val, count)
    return Together(experiment, keeper.best, shared, best, keeper.best_step, keeper.finite)


def evaluated_together(
    experiment: Experiment,
    planned: Planned,
    varies: PyTree,
    shared: PyTree,
    table: Table,
    count: tuple[int, int],
) -> list[list[dict[str, float]]]:
    """Metrics of every run on a split behind the prefix."""
    one = summable(planned.model, planned.phase.forward)

    def totals(own: PyTree, rest: PyTree, batch: Any) -> Any:
        return one(Variables(*trees.merge(own, rest)), batch, experiment.constants)

    many = jax.jit(jax.vmap(jax.vmap(totals, (0, None, None)), (0, None, None)))
    batches = feed.from_table(table, experiment)
    total = jax.device_get(reduce(added, (many(varies, shared, batch) for batch in batches)))

    def metrics(seed: int, point: int) -> dict[str, float]:
        return metrics_of(planned.model, jax.tree.map(lambda leaf: leaf[seed, point], total))

    return [[metrics(seed, point) for point in range(count[1])] for seed in range(count[0])]


def testing(found: Together, store: Store) -> Callable[[int, int], dict[str, float]]:
    """(number of a seed, number of a point) -> metrics on the test split, for which the prefix is
    computed once, when the first is asked for."""
    experiment = found.experiment
    last = experiment.final

    @cache
    def table() -> Table:
        test = experiment.splits.test
        return feed.table_of(experiment, last, experiment.variables, test, store)

    def test(seed: int, point: int) -> dict[str, float]:
        batches = feed.from_table(table(), experiment)
        return evaluated(experiment, last, found.variables(seed, point), batches).metrics

    return test


class _Keeper:
    """The best step of every run, chosen as the loop chooses it."""

    def __init__(self, experiment: Experiment, count: tuple[int, int], varies: PyTree) -> None:
        self.metric, self.direction = experiment.selection
        self.patience = experiment.config.patience
        self.value = np.full(count, -np.inf if self.direction == "max" else np.inf, np.float32)
        self.loss = np.full(count, np.inf, np.float32)
        self.best_step = np.zeros(count, int)
        self.since = np.zeros(count, int)
        self.finite = np.ones(count, bool)
        self.best = varies

    def look(self, step: int, varies: PyTree, found: list[list[dict[str, float]]]) -> None:
        """Keep the runs that are better now than ever."""
        better = np.zeros_like(self.finite)
        for place in np.ndindex(*better.shape):
            metrics = found[place[0]][place[1]]
            value, loss = np.float32(metrics[self.metric]), np.float32(metrics["loss"])
            self.finite[place] &= bool(np.isfinite(loss))
            stopped = self.patience is not None and self.since[place] >= self.patience
            if not stopped and ahead(
                self.direction, value, loss, self.value[place], self.loss[place]
            ):
                better[place] = True
                self.value[place], self.loss[place] = value, loss
                self.best_step[place], self.since[place] = step, 0
            else:
                self.since[place] += 1
        which = jnp.asarray(better)

        def pick(now: Array, then: Array) -> Array:
            return jnp.where(which.reshape(which.shape + (1,) * (now.ndim - 2)), now, then)

        self.best = jax.tree.map(pick, varies, self.best)


def _phase(
    experiment: Experiment,
    planned: Planned,
    stacked: Stacked,
    shared: PyTree,
    points: Mapping[str, Any],
    tables: Mapping[str, Table],
    seeds: Sequence[int],
    keeper: _Keeper,
) -> Stacked:
    alone = experiment._replace(mesh=None)
    program = build_step(alone, planned, experiment.objective(planned))
    step = inspect.unwrap(program)  # what was jitted: the program around it is ours
    table, size = tables["train"], experiment.config.batch_size
    rows = jax.tree.map(jnp.asarray, table.rows)
    ones = jnp.ones((1, size), jnp.float32)
    balanced = experiment.config.data.sampling == "balanced"
    orders = [table.numbers(size, seed, balanced) for seed in seeds]

    def state_of(own: Stacked) -> TrainState:
        params, state = trees.merge(own.varies, shared)
        return TrainState(own.step, params, state, own.opt_state, own.rng, {})

    def begun(own: Stacked) -> Any:
        return optimizer_state(experiment, planned, state_of(own))

    def update(own: Stacked, hyper: Mapping[str, Any], batch: Any) -> Stacked:
        constants = experiment.constants._replace(hyper=hyper)
        train, _ = step(state_of(own), constants, batch)
        varies = _varying(own.varies, (train.params, train.state))
        return Stacked(varies, train.opt_state, train.step, train.rng)

    @partial(jax.jit, donate_argnums=0)
    def interval(stacked: Stacked, rows: Any, points: Any, positions: Array) -> Stacked:
        def of_seed(own: Stacked, at: Array) -> Stacked:
            batch = jax.tree.map(lambda leaf: leaf[None], taken(rows, at))._replace(weight=ones)
            return jax.vmap(update, (0, 0, None))(own, points, batch)

        def one(own: Stacked, at: Array) -> tuple[Stacked, None]:
            return jax.vmap(of_seed)(own, at), None

        return jax.lax.scan(one, stacked, positions)[0]

    stacked = stacked._replace(opt_state=jax.jit(jax.vmap(jax.vmap(begun)))(stacked))
    stacked = jax.tree.map(jnp.copy, stacked)
    every = max(1, round((experiment.config.eval_every or 1.0) * experiment.steps_per_epoch))
    now = planned.start
    while now < planned.stop:
        then = min(planned.stop, (now // every + 1) * every)
        positions = np.stack([[of(t) for of in orders] for t in range(now, then)])
        stacked = interval(stacked, rows, points, jnp.asarray(positions))
        count = (len(seeds), len(jax.tree.leaves(points)[0]))
        found = evaluated_together(
            experiment, planned, stacked.varies, shared, tables["val"], count
        )
        keeper.look(then, stacked.varies, found)
        now = then
    return stacked


def _begin(experiment: Experiment, seeds: Sequence[int]) -> Variables:
    """Where each seed starts, (S,...): what the file gave, and the rest drawn with the seed."""
    known = _flat(experiment.variables)
    fresh = sorted(_fresh_paths(experiment))
    sample = next(eval_batches(experiment, experiment.splits.train))

    @jax.jit
    def drawn(key: Array) -> dict[str, Array]:
        made = _flat(experiment.model.init(jax.random.fold_in(key, 0), sample))
        return {path: made[path] for path in fresh if path in made}

    if len(seeds) == 1:
        own: dict[str, Array] = {}
    else:
        own = jax.vmap(drawn)(_keys(seeds))
    leaves = {
        path: own.get(path, jnp.broadcast_to(leaf, (len(seeds), *leaf.shape)))
        for path, leaf in known.items()
    }
    return Variables(*trees.unflat(_named(experiment.variables), leaves).values())


def _fresh_paths(experiment: Experiment) -> set[str]:
    """Leaves that no file gave."""
    given = {leaf.path for leaf in experiment.report.loaded} if experiment.report else set()
    return set(_flat(experiment.variables)) - given


def _mask(experiment: Experiment, seeds: Sequence[int]) -> PyTree:
    """A bool per leaf of (params, state): whether it may differ between runs."""
    fresh = _fresh_paths(experiment) if len(seeds) > 1 else set()
    still = all(p.model.frozen == p.model.depth for p in experiment.phases)
    paths = trees.paths(_named(experiment.variables))
    moved = jax.tree.map(lambda *bits: any(bits), *(p.trainable for p in experiment.phases))
    params = jax.tree.map(lambda m, path: m or path in fresh, moved, paths["params"])
    state = jax.tree.map(lambda path: not still or trees.part(path) != "backbone", paths["state"])
    return params, state


def _named(variables: Variables) -> dict[str, PyTree]:
    return {"params": variables.params, "state": variables.state}


def _flat(variables: Variables) -> dict[str, Array]:
    return trees.flat(_named(variables))


def _keys(seeds: Sequence[int]) -> Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def _varying(like: PyTree, whole: PyTree) -> PyTree:
    """The leaves of `whole` where `like` has one."""
    return jax.tree.map(
        lambda a, b: None if a is None else b, like, whole, is_leaf=lambda leaf: leaf is None
    )
