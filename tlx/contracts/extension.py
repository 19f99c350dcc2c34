"""The contracts of a strategy that changes the network itself, not only how it is trained.

What they change is part of the model: in every mode, in the folder that a run leaves, in whatever
predicts from it. A strategy has those that it needs. Opens without importing jax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from tlx.types import Features, FeatureSpec, Mode, Params, PyTree, State

if TYPE_CHECKING:
    from jax import Array


@runtime_checkable
class Reparametrises(Protocol):
    """Optional for a Strategy: the network runs with other parameters than those that are learnt
    (LoRA and its kin)."""

    def effective(self, params: Params) -> Params:
        """Parameters of the same structure with the backbone that is really used. The core applies
        it before every forward pass, word, evaluation, prediction and export, and sees by tracing
        which leaves it changes."""
        ...


@runtime_checkable
class ChangesInputs(Protocol):
    """Optional for a Strategy: what the backbone is given is changed first (a prompt, an adapter).

    Nothing of a frozen backbone can be computed ahead then: it is differentiated through, and
    neither its leaves nor its statistics move."""

    def change_inputs(
        self, own: Params, own_state: State, x: PyTree, *, rng: Array, mode: Mode
    ) -> tuple[PyTree, State]:
        """What the backbone gets, of the shape and type of `x` (B,...), which is float32 and
        preprocessed, and the strategy's state after the pass (unchanged unless mode is 'train').
        `own` and `own_state` are the strategy's own leaves, as its `init` made them."""
        ...


@runtime_checkable
class ChangesFeatures(Protocol):
    """Optional for a Strategy: the head and everybody else see other features than the backbone
    gives (side-tuning).

    What frozen stages give is still computed once: those features are kept that the change reads,
    found by tracing, and the pictures, where it reads `x`."""

    def change_features(
        self, own: Params, own_state: State, features: Features, x: PyTree, *, rng: Array,
        mode: Mode,
    ) -> tuple[Features, State]:  # fmt: skip
        """All `features` by name, each (B,...), with those that `AddsFeatures` declares, and the
        state as for `ChangesInputs`. `x` is what the backbone got, in float32."""
        ...


@runtime_checkable
class AddsFeatures(Protocol):
    """Optional for a strategy that `ChangesFeatures`: names beside the backbone's."""

    @property
    def added_features(self) -> tuple[FeatureSpec, ...]:
        """The features that only the change makes; a head may need them."""
        ...


Extension: TypeAlias = ChangesInputs | ChangesFeatures
"""A strategy with one of these, or both: what a `Model` is extended by."""
