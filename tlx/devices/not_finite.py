"""Numbers that are not finite: updates that a run leaves out, and leaves that must not be kept.

An update whose loss or gradient is not finite can be left out inside of the compiled step: the
numbers stay as they were and the ledger counts it. The ledger is part of the training state, so
several steps in a call need no look from outside, and a resumed run goes on counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.run_file.run_config import OnNan
from tlx.trees import flat
from tlx.types import PyTree, TrainState, Variables

TOTAL, IN_A_ROW, FACTOR = "skipped", "skipped_in_a_row", "learning_rate_factor"
"""What the ledger holds where updates are left out; the last where the learning rate falls, too."""
REDUCTION = 0.5
"""By this the learning rate falls with each update that is left out."""
SMALL = 2**16
"""Numbers of a gradient that are copied for a look at them; larger ones are looked at in place."""


def counters(policy: OnNan) -> dict[str, Array]:
    """What a ledger begins with; nothing for 'stop', which asks nothing of a step."""
    if policy == "stop":
        return {}
    counts = {TOTAL: jnp.int32(0), IN_A_ROW: jnp.int32(0)}
    return counts if policy == "skip" else {**counts, FACTOR: jnp.float32(1)}


def reduced(hyper: Mapping[str, Any], ledger: Mapping[str, Array]) -> Mapping[str, Any]:
    """The hyperparameters of an update, with the learning rate as far down as the ledger says."""
    if FACTOR not in ledger:
        return hyper
    return {**hyper, "learning_rate": hyper["learning_rate"] * ledger[FACTOR]}


def guarded(
    before: TrainState, after: TrainState, metrics: Mapping[str, Any], gradient: PyTree
) -> tuple[TrainState, Mapping[str, Any]]:
    """Inside of jit: (the state after an update, or, where its loss or gradient is not finite, the
    one before it, a step on; the metrics with what the ledger then says, as `skipping`).

    Both as they are where the ledger does not ask for it (see `counters`)."""
    counts = {name: before.ledger[name] for name in (TOTAL, IN_A_ROW) if name in before.ledger}
    if not counts:
        return after, metrics
    fine = _finite((metrics["loss"], gradient))
    counts = {
        TOTAL: counts[TOTAL] + jnp.where(fine, 0, 1),
        IN_A_ROW: jnp.where(fine, 0, counts[IN_A_ROW] + 1),
    }
    if FACTOR in before.ledger:
        factor = before.ledger[FACTOR]
        counts[FACTOR] = jnp.where(fine, factor, factor * REDUCTION)
    now, then = ((state.params, state.state, state.opt_state) for state in (after, before))
    params, state, opt_state = jax.tree.map(lambda a, b: jnp.where(fine, a, b), now, then)
    kept = after._replace(
        params=params, state=state, opt_state=opt_state, ledger={**after.ledger, **counts}
    )
    return kept, {**metrics, "skipping": counts}


def lost(train: TrainState, start: Variables) -> list[str]:
    """Paths of leaves with a number that is not finite; empty for a state that can be kept. What
    was like that at the `start` of the run is as it should be. Of several processes each says what
    it holds of them."""
    held = ("params", train.params), ("state", train.state), ("optimizer", train.opt_state)
    leaves = [found for name, tree in held for found in flat({name: tree}).items()]
    odd = [path for path, leaf in leaves if not _sound(leaf)]
    if not odd:
        return []
    begun = flat({"params": start.params, "state": start.state})
    return [path for path in odd if path not in begun or _sound(begun[path])]


def _finite(tree: PyTree) -> Array:
    """Small leaves of one shape are looked at together: on the CPU a reduction of its own for every
    leaf of a ResNet-20 doubled the time that its step takes to compile."""
    alike: dict[Any, list[Array]] = {}
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        own = number if leaf.size > SMALL else None
        alike.setdefault((leaf.shape, leaf.dtype, own), []).append(leaf)
    return jnp.all(jnp.stack([jnp.isfinite(jnp.stack(some)).all() for some in alike.values()]))


def _sound(leaf: Any) -> bool:
    """On the host, where nothing has to be compiled for it."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return True
    if not isinstance(leaf, jax.Array):
        return bool(np.isfinite(leaf).all())
    parts = leaf.addressable_shards[: 1 if leaf.is_fully_replicated else None]
    return all(np.isfinite(np.asarray(part.data)).all() for part in parts)
