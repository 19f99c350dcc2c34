"""A phase: a stretch of training in which the same leaves move.

A strategy is a sequence of phases; `tlx.planning.plan` turns each into a mask over the leaves.
Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, final, runtime_checkable

from tlx.types import (
    Batch,
    Constants,
    Features,
    Forward,
    Mode,
    NormPolicy,
    Params,
    Variables,
)

if TYPE_CHECKING:
    from jax import Array

    from tlx.model import Model
    from tlx.protocols import Strategy


class ForwardFn(Protocol):
    """What a phase feeds through the model, and the loss per example that comes of it."""

    def __call__(
        self,
        model: Model,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        mode: Mode,
        progress: Array,
    ) -> Forward:
        """One pass over a batch; `progress` is 0 to 1 over the whole run."""
        ...


class Examples(NamedTuple):
    """A whole split behind a frozen backbone: the features (N,...) that the head needs, and the
    split as one batch, whose inputs are one row for all where nobody reads them."""

    features: Features
    batch: Batch


class Solution(NamedTuple):
    """What an exact solver found: the head's parameters, and how, in a sentence."""

    head: Params
    note: str


class SolveFn(Protocol):
    """An exact solver for the head alone, in place of a phase's steps."""

    def __call__(
        self, model: Model, variables: Variables, train: Examples, val: Examples, *, rng: Array
    ) -> Solution:
        """The head that minimises its loss over `train`; `val` may choose what is left open."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same leaves move.

    `group` sends every leaf path (`backbone/...`, `head/...`, `strategy/...`) to a group name;
    the group 'frozen' is never differentiated. `lr` multiplies the learning rate of a group
    (1 where absent). `norm` is the batch-norm policy of what moves; a frozen prefix of the
    backbone always runs in mode 'eval'. With `solve` only the head may move, and the phase's steps
    are taken at once: un-augmented pictures, no divergences. `reads` are the features that
    `forward` needs beyond those of the head: they are kept of frozen stages, and the network does
    not end before them."""

    name: str
    steps: int
    group: Callable[[str], str]
    forward: ForwardFn
    lr: Mapping[str, float] = field(default_factory=dict)
    norm: NormPolicy = "train"
    solve: SolveFn | None = None
    reads: tuple[str, ...] = ()


@runtime_checkable
class HasSetup(Protocol):
    """Optional for a Strategy: it looks at numbers and data before it plans (which layers to tune,
    say). Called once while a run is assembled, before `init` and `phases`, and again whenever the
    run is: with the same arguments it has to find the same."""

    def setup(
        self,
        *,
        model: Model,
        variables: Variables,
        batches: Callable[[], Iterable[Batch]],
        rng: Array,
    ) -> Strategy:
        """The strategy that the run goes on with, usually `dataclasses.replace(self, ...)`, with
        the same `brings`. `variables` are backbone and head as loaded; `batches()` are un-augmented
        batches of the training split, each example once, of no other split.

        What it found is part of the model that is saved where it is said by options of the
        strategy; a strategy with hooks has to say it so, and is asked for the shapes of `init` and
        of its hooks before `setup`, too."""
        ...
