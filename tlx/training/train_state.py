"""The state of a run before its first step, and what a checkpoint of any step looks like.

Every phase starts with an optimizer state of its own, so the structure of a checkpoint depends on
the phase that its step belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tlx import trees
from tlx.assemble import Experiment
from tlx.devices import mesh
from tlx.devices.compiled import compiled_for_once
from tlx.devices.not_finite import counters
from tlx.planning.plan import Planned
from tlx.protocols import SelfSupervised
from tlx.training.another_length import going_on
from tlx.types import TrainState


def fresh_state(experiment: Experiment, planned: Planned) -> TrainState:
    """The state before the first step, with the optimizer state of a phase."""
    # Copies, because a step donates its state and the experiment's own numbers must survive.
    params, state = copied(tuple(experiment.variables))
    watched = isinstance(experiment.strategy, SelfSupervised)
    worst = -jnp.inf if experiment.selection[1] == "max" else jnp.inf
    train = TrainState(
        step=jnp.int32(0),
        params=params,
        state=state,
        opt_state=(),
        rng=jax.random.fold_in(jax.random.key(experiment.config.seed), 2),
        ledger={
            "best": jnp.float32(worst),
            "best_loss": jnp.float32(jnp.inf),
            "best_step": jnp.int32(0),
            "since": jnp.int32(0),
            **counters(experiment.config.optimizer.on_nan),
            **({"spread": jnp.float32(0), "fallen": jnp.int32(0)} if watched else {}),
        },
    )
    train = mesh.placed(train, experiment.mesh)
    return entering(experiment, planned, train)


def entering(experiment: Experiment, planned: Planned, train: TrainState) -> TrainState:
    """The state with the optimizer's of a phase that begins."""
    made = partial(optimizer_state, experiment, planned)
    if experiment.mesh is None:  # over several devices each leaf is made where its parameter lies
        made = compiled_for_once(made)
    return train._replace(opt_state=mesh.placed(made(train), experiment.mesh))


def optimizer_state(experiment: Experiment, planned: Planned, train: TrainState) -> Any:
    """The optimizer's state at the start of a phase: of what moves in it, and nothing else."""
    moving = trees.partition(train.params, planned.trainable)[0]
    return experiment.update(planned).init(moving)


@jax.jit
def copied(tree: Any) -> Any:
    """The same numbers in memory of their own: one program, not one for each shape."""
    return jax.tree.map(jnp.copy, tree)


def like(experiment: Experiment, step: int, meta: Mapping[str, Any]) -> Any:
    """The structure of a checkpoint of `step`: its optimizer state is that of its phase. Raises
    CheckpointError where it is of a run with another length, which cannot go on from there."""
    going_on(experiment, step, meta)
    planned = next(p for p in experiment.phases if step <= p.stop)
    return {"train": fresh_state(experiment, planned), "best": experiment.variables}
