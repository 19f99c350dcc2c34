"""The contracts of an update: how a step computes it, at once or from parts of the batch in turn.

`tlx.protocols` names them beside the others. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tlx.types import Batch, Constants, PyTree, TrainState

if TYPE_CHECKING:
    import optax
    from jax.sharding import Mesh

    from tlx.objective import Objective


class StepFn(Protocol):
    """What `jax.jit` returns for a step: callable, and compilable ahead of its first call."""

    def __call__(
        self, train: TrainState, constants: Constants, batches: Batch, /
    ) -> tuple[TrainState, Mapping[str, Any]]:
        """The state after K updates, and K values of each metric."""
        ...

    def lower(self, *arguments: Any) -> Any:
        """`jax.stages.Lowered` for arguments of these shapes."""
        ...


@runtime_checkable
class Step(Protocol):
    """How one update is computed."""

    def build(
        self,
        objective: Objective,
        tx: optax.GradientTransformationExtraArgs,
        trainable: PyTree,
        mesh: Mesh | None,
    ) -> StepFn:
        """A jitted `(TrainState, Constants, batches) -> (TrainState, metrics)`.

        `batches` holds K stacked batches (leading axis K) and each metric is (K,). `trainable`
        has the structure of the params with a bool per leaf. `tx.update` takes the extra
        arguments `hyper` (the traced `Constants.hyper`) and `step` (the global step)."""
        ...


@runtime_checkable
class Accumulates(Protocol):
    """Optional for a Step: it computes a batch in equal parts, one after another, and takes one
    update with the mean of their gradients. A network that knows examples one by one gets the
    update of the whole batch; batch norm sees a part at a time."""

    @property
    def accumulate(self) -> int:
        """The number of parts; 1 for the batch at once."""
        ...


@runtime_checkable
class Skips(Protocol):
    """Optional for a Step: where the ledger asks for it, an update whose loss or gradient is not
    finite is left out and counted, and learning rates are as far down as the ledger says: it calls
    `tlx.devices.not_finite.reduced` before an update and `tlx.devices.not_finite.guarded` after
    it."""

    @property
    def skips(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """Optional for a Divergence or a Strategy: parts of a batch do not say what the batch says. For
    one without this the mean over equal parts is the value of the whole, as for any mean per
    example and for what looks at parameters alone."""

    @property
    def whole_batch(self) -> str:
        """Why, as the end of a sentence ("it compares all pairs of examples"); '' where it is
        otherwise."""
        ...


@runtime_checkable
class SmallestBatch(Protocol):
    """Optional for a Divergence or a Strategy: it compares examples with each other, so below some
    number of them there is nothing to compare. Without this, one example is enough."""

    @property
    def smallest_batch(self) -> int:
        """How many different examples it needs at a time for a value that means something."""
        ...
