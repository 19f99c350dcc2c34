"""One jit-compiled update: differentiate what moves, keep what is frozen.

The partition comes before the gradient, so frozen leaves cost no backward pass and no optimizer
state. The old state's memory is donated; learning rates and weights are traced arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import jax
import optax
from jax import Array
from jax.sharding import Mesh

from tlx.devices.compiled import compiled
from tlx.devices.mesh import constrained, whole
from tlx.devices.not_finite import guarded, reduced
from tlx.errors import ConfigError
from tlx.objective import Objective
from tlx.protocols import StepFn
from tlx.trees import merge, partition
from tlx.types import Batch, Constants, PyTree, State, TrainState
from tlx_steps.parts_of_batch import accumulated
from tlx_steps.repeated import repeated


@final
@dataclass(frozen=True)
class Jit:
    """The default step, for CPU, GPU and TPU.

    Args:
        accumulate: compute a batch in so many equal parts, one after another, and take one update
            with the mean of their gradients: the memory of a smaller batch. Batch norm sees a part
            at a time. What has to see a batch whole is refused.
        remat: compute the network's activations again for the backward pass instead of keeping
            them: less memory, about a third more time. On the CPU, XLA undoes it.
    """

    accumulate: int = 1
    remat: bool = False

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.accumulate < 1:
            raise ConfigError(
                f"accumulate is the number of parts that a batch is computed in, 1 or more, not "
                f"{self.accumulate}."
            )

    @property
    def skips(self) -> bool:
        """See `tlx.protocols.Skips`."""
        return True

    def build(
        self,
        objective: Objective,
        tx: optax.GradientTransformationExtraArgs,
        trainable: PyTree,
        mesh: Mesh | None,
    ) -> StepFn:
        """See `tlx.protocols.Step`."""
        if self.remat:
            objective = replace(objective, model=replace(objective.model, remat=True))

        def one(
            train: TrainState, constants: Constants, batch: Batch
        ) -> tuple[TrainState, Mapping[str, Any]]:
            rng = jax.random.fold_in(train.rng, train.step)
            progress = train.step / constants.hyper["steps"]
            moving, still = partition(train.params, trainable)
            seen, read = whole((train.state, constants), mesh)

            def slope(
                state: State, batch: Batch, *, rng: Array, total: Array | None = None
            ) -> tuple[PyTree, State, Mapping[str, Any]]:
                def loss(moving: PyTree) -> Any:
                    params = whole(merge(moving, still), mesh)
                    return objective(
                        params, state, batch, read, rng=rng, progress=progress, total=total
                    )

                (_, (state, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(moving)
                return constrained(grads, mesh), state, metrics

            if self.accumulate == 1:
                grads, state, metrics = slope(seen, batch, rng=rng)
            else:
                grads, state, metrics = accumulated(
                    slope, self.accumulate, moving, seen, batch, rng=rng
                )
            updates, opt_state = tx.update(
                grads, train.opt_state, moving,
                hyper=reduced(constants.hyper, train.ledger), step=train.step,
            )  # fmt: skip
            params = merge(optax.apply_updates(moving, updates), still)
            state = objective.updated(params, state, progress)
            after = train._replace(
                step=train.step + 1, params=params, state=state, opt_state=opt_state
            )
            after, metrics = guarded(train, after, metrics, grads)
            return constrained(after, mesh), whole(metrics, mesh)

        def several(
            train: TrainState, constants: Constants, batches: Batch
        ) -> tuple[TrainState, Mapping[str, Any]]:
            return repeated(lambda train, batch: one(train, constants, batch), train, batches)

        return compiled(several, donate_argnums=0)
