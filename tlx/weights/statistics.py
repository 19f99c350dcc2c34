"""Running statistics of batch norm, computed anew for given numbers and pictures.

Averaged weights have never seen a picture, so their running statistics belong to nobody. Here they
become the mean of the statistics of whole batches, as `torch.optim.swa_utils.update_bn` has it
(Izmailov et al. 2018, arXiv:1803.05407, section 3.2), for any backbone, by looking at what its
training pass does to its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx import trees
from tlx.devices.compiled import compiled
from tlx.devices.mesh import fetched
from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.types import Batch, Params, State, Variables

Pass: TypeAlias = Callable[[State], tuple[State, Any]]
PARTS = ("backbone", "head")
MANY = 2**30
"""What a counter of steps is set to: so many that no average corrects for its first steps."""


def recomputed(model: Model, variables: Variables, batches: Iterable[Batch]) -> Variables:
    """`variables` with running statistics that are the mean over `batches` of each one's own.

    A running statistic moves as r' = m r + (1 - m) b with the batch's statistic b. This is affine
    in r, so a pass that starts at 0 and one that starts high up give m, and every pass after that
    gives a b: no module has to tell its momentum. Leaves that move otherwise or not at all, those
    of the frozen stages among them, keep their values. A counter of steps (Haiku's and Equinox's
    averages divide by a function of it) is left at a high number.

    Passes are in mode 'train', dropout included, and only batches without padding count, unless
    there is no other. `variables.params` are those that the network really uses. Raises DataError
    without a batch, ConfigError where the backbone has no mode 'train' or where its training pass
    depends on its state, so that there is no statistic of a batch alone."""
    own = {part: variables.state[part] for part in PARTS if part in variables.state}
    if not any(_is_float(leaf) for leaf in jax.tree.leaves(own)):
        return variables
    if "train" not in model.backbone.modes:
        raise ConfigError(
            "Batch statistics cannot be computed anew: the backbone has no mode 'train'."
        )
    others = {part: leaf for part, leaf in variables.state.items() if part not in PARTS}
    run = partial(_passes(replace(model, norm="train")), others)
    params = variables.params
    momentum: Mapping[str, float] = {}
    begin, settled, total, count = own, own, {}, 0
    for batch in _whole(batches):
        key = jax.random.fold_in(jax.random.key(0), count)
        if count == 0:
            first = partial(run, params, batch, key)
            begin, settled, moving = _beginnings(own, first)
            momentum = _momenta(begin, moving, first)
        after = trees.flat(run(params, batch, key, begin)[0])
        total = {path: after[path] + total.get(path, 0) for path in momentum}
        count += 1
    if count == 0:
        raise DataError("Batch statistics cannot be computed anew: there is no batch of pictures.")
    leaves = trees.flat(settled)
    for path, share in momentum.items():
        mean = np.asarray(fetched(total[path]), np.float64) / count / (1 - share)
        leaves[path] = jnp.asarray(mean, leaves[path].dtype)
    return Variables(params, {**variables.state, **trees.unflat(own, leaves)})


@lru_cache(maxsize=4)
def _passes(model: Model) -> Callable[[State, Params, Batch, Array, State], Any]:
    """A jitted training pass: the state that it leaves, and a number for each thing it returns."""

    def run(others: State, params: Params, batch: Batch, key: Array, state: State) -> Any:
        variables = Variables(params, {**others, **state})
        features, body = model.features(variables, batch, rng=key, mode="train")
        outputs, top = model.apply_head(
            variables, features, inputs=batch.inputs, rng=key, mode="train"
        )
        after = {"backbone": body} if model.head is None else {"backbone": body, "head": top}
        return after, jax.tree.map(lambda x: jnp.abs(x).mean(), (features, outputs))

    return compiled(run)


def _whole(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches without padding; the examples of a padded one if there is no other."""
    ragged, found = None, False
    for batch in batches:
        counted = np.asarray(fetched(batch.weight)) > 0
        fed = batch._replace(targets={}, domain=None, mixed=None)
        if counted.all():
            found = True
            yield fed
        elif counted.any():
            ragged = jax.tree.map(lambda x, counted=counted: x[counted], fed)
    if not found and ragged is not None:
        yield ragged


def _beginnings(own: State, run: Pass) -> tuple[State, State, list[str]]:
    """The state from which a pass shows its batch's statistics, the one to leave behind, and the
    paths of what may be a statistic.

    Statistics begin at 0; a counter at `MANY`; a flag that a pass takes down (the first step, at
    which Equinox's averages take the batch's statistics over) is up. What a pass does not move is
    left alone: frozen stages normalise by it. (The trial is from elsewhere, because a pass over
    the pictures that a statistic was made of leaves it where it is.)"""
    leaves = trees.flat(own)
    flags = {path: jnp.ones_like(leaf) for path, leaf in leaves.items() if leaf.dtype == bool}
    trial = {path: 2 * leaf + 1 for path, leaf in leaves.items() if _is_float(leaf)}
    after = trees.flat(run(trees.unflat(own, leaves | flags | trial))[0])
    begin, settled, moving = dict(leaves), dict(leaves), []
    for path, leaf in leaves.items():
        if path in trial and bool(jnp.any(after[path] != trial[path])):
            begin[path] = jnp.zeros_like(leaf)
            moving.append(path)
        elif path in flags and not bool(jnp.any(after[path])):
            begin[path], settled[path] = flags[path], after[path]
        elif leaf.ndim == 0 and _is_integer(leaf) and after[path] == leaf + 1:
            begin[path] = settled[path] = jnp.full_like(leaf, MANY)
    return trees.unflat(own, begin), trees.unflat(own, settled), moving


def _momenta(begin: State, moving: list[str], run: Pass) -> dict[str, float]:
    """Leaf path -> m, of those leaves that move as a running statistic does.

    The second start is a power of two so high that b is lost in rounding: then r' / r is m to the
    last bit, and as the shortest decimal of that number it is what somebody wrote."""
    after, seen = run(begin)
    low = trees.flat(after)
    high = {path: _high(low[path]) for path in moving}
    after, also = run(trees.unflat(begin, trees.flat(begin) | high))
    top = trees.flat(after)
    same = jax.tree.map(lambda a, b: bool(jnp.abs(a - b) <= 1e-3 * jnp.abs(a)), seen, also)
    if not all(jax.tree.leaves(same)):
        raise ConfigError(
            "Batch statistics cannot be computed anew: in mode 'train' this network's features "
            "depend on its running statistics, so there is no statistic of a batch alone. Use "
            "batch norms that normalise by the batch while they train."
        )
    found = {}
    for path in moving:
        slope = np.asarray(fetched((top[path] - low[path]) / high[path]))
        middle = float(str(np.median(slope).astype(slope.dtype)))
        alike = np.abs(slope - middle) <= 64 * jnp.finfo(slope.dtype).eps
        if 0 <= middle < 1 and alike.all():
            found[path] = middle
    return found


def _high(low: Array) -> Array:
    """Powers of two beside which `low` is nothing."""
    room = jnp.finfo(low.dtype).nmant + 7
    above = np.frexp(np.maximum(np.abs(np.asarray(fetched(low), np.float64)), 1))[1]
    return jnp.asarray(np.ldexp(1.0, above + room), low.dtype)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_integer(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.signedinteger)
