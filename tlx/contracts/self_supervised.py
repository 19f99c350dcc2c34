"""The contracts of learning without labels: masked networks, averages, what to watch and to show.

`tlx.protocols` names them beside the others. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from tlx.types import Batch, Features, Mode, Params, State, Variables

if TYPE_CHECKING:
    from jax import Array

    from tlx.model import Model


@runtime_checkable
class Maskable(Protocol):
    """Optional for a Backbone: sees a part of a picture as if the rest of it did not exist.

    A picture is a grid of square cells, each visible or hidden as a whole. Nothing that lies in a
    hidden cell can change what is said of a visible one (Tian et al. 2023, SparK,
    arXiv:2301.03580, section 3.1; He et al. 2022, MAE, arXiv:2111.06377, section 3)."""

    @property
    def cell(self) -> int | None:
        """Side of a cell in pixels of the network's input: the stride of the deepest map, or a
        patch. None where this network cannot be masked layer by layer."""
        ...

    def apply_visible(
        self,
        params: Params,
        state: State,
        x: Array,
        visible: Array,
        *,
        count: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[Features, State]:
        """All features of what is visible, and the state after the pass.

        `visible` is (B,H/cell,W/cell), True for `count` cells of every picture. Maps are 0 where
        they are hidden, their means are over visible positions, and batch statistics know of no
        others. Tokens (B,T,D) are those of the visible cells alone, row by row, behind the T -
        `count` tokens that stand for no cell."""
        ...


@runtime_checkable
class Averages(Protocol):
    """Optional for a Strategy: its state follows the parameters (a teacher that is a moving
    average)."""

    def begin(self, params: Params, state: State) -> State:
        """The state before the first step, for parameters as loaded."""
        ...

    def after_update(self, params: Params, state: State, *, progress: Array) -> State:
        """The state after a step that led to `params`; same structure. Runs in jit; `progress` is
        0 to 1 over the whole run."""
        ...


@runtime_checkable
class SelfSupervised(Protocol):
    """Optional for a Strategy: it learns without labels, so its features are watched
    (`tlx.training.health`) and a run that has collapsed is stopped."""

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The step to keep: that of the lowest loss on validation, or the last one, where a lower
        loss does not mean better features."""
        ...

    def trivial(self, batch_size: int) -> float | None:
        """The loss of features that are the same for every picture; None where that is no sign,
        because such features reach the lowest loss there is."""
        ...


@runtime_checkable
class Explains(Protocol):
    """Optional for a Strategy: what a user should know of how it treats a model."""

    def notes(self, model: Model) -> tuple[str, ...]:
        """Full sentences; none where there is nothing out of the ordinary."""
        ...


@runtime_checkable
class Draws(Protocol):
    """Optional for a Strategy: what it did with pictures, as pictures, for a report."""

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """Titles with pictures (B,H,W,3) in 0..1, in the order in which they are to stand beside
        each other: the original, what the model saw, what it made of it."""
        ...
