"""Every contract of tlx, documented once.

A plugin is anything that satisfies one of these Protocols: usually a frozen dataclass whose
fields are its configuration. Optional contracts are separate small Protocols; the core asks
`isinstance` once, when a run is assembled. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from tlx.contracts.dialect import Dialect
from tlx.contracts.extension import AddsFeatures as AddsFeatures
from tlx.contracts.extension import ChangesFeatures as ChangesFeatures
from tlx.contracts.extension import ChangesInputs as ChangesInputs
from tlx.contracts.extension import Reparametrises as Reparametrises
from tlx.contracts.field import Field as Field
from tlx.contracts.field import Spatial as Spatial
from tlx.contracts.input import Input as Input
from tlx.contracts.input import Inputs as Inputs
from tlx.contracts.metric import Metric as Metric
from tlx.contracts.outside import Architected as Architected
from tlx.contracts.outside import Augmentation as Augmentation
from tlx.contracts.outside import DataSource as DataSource
from tlx.contracts.outside import KeepsPlaces as KeepsPlaces
from tlx.contracts.outside import KnowsClasses as KnowsClasses
from tlx.contracts.outside import KnowsHead as KnowsHead
from tlx.contracts.outside import KnowsInput as KnowsInput
from tlx.contracts.outside import Labelled as Labelled
from tlx.contracts.outside import Mixes as Mixes
from tlx.contracts.outside import Named as Named
from tlx.contracts.outside import Noted as Noted
from tlx.contracts.outside import Score as Score
from tlx.contracts.outside import Sink as Sink
from tlx.contracts.outside import Split as Split
from tlx.contracts.outside import WeightSource as WeightSource
from tlx.contracts.outside import Writes as Writes
from tlx.contracts.phase import Examples as Examples
from tlx.contracts.phase import ForwardFn as ForwardFn
from tlx.contracts.phase import HasSetup as HasSetup
from tlx.contracts.phase import Phase as Phase
from tlx.contracts.phase import Solution as Solution
from tlx.contracts.phase import SolveFn as SolveFn
from tlx.contracts.self_supervised import Averages as Averages
from tlx.contracts.self_supervised import Draws as Draws
from tlx.contracts.self_supervised import Explains as Explains
from tlx.contracts.self_supervised import Maskable as Maskable
from tlx.contracts.self_supervised import SelfSupervised as SelfSupervised
from tlx.contracts.step import Accumulates as Accumulates
from tlx.contracts.step import Skips as Skips
from tlx.contracts.step import SmallestBatch as SmallestBatch
from tlx.contracts.step import Step as Step
from tlx.contracts.step import StepFn as StepFn
from tlx.contracts.step import WholeBatch as WholeBatch
from tlx.types import (
    Batch,
    Features,
    FeatureSpec,
    LeafInfo,
    Mode,
    Network,
    Params,
    PyTree,
    State,
    Variables,
)  # fmt: skip

if TYPE_CHECKING:
    from jax import Array

    from tlx.model import Model
    from tlx.run_file.run_config import DivergenceConfig, SourceConfig


# --- f: the network ---------------------------------------------------------------------------


@runtime_checkable
class Backbone(Protocol):
    """A network body as pure functions. `x` is what `inputs` have prepared, such as images
    (B,H,W,C) float; of several ports a mapping."""

    @property
    def inputs(self) -> Inputs:
        """How it wants its values when no weights say otherwise: the input of its one port, or
        several by port."""
        ...

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Its named outputs, shallow to deep; the order lives here because dicts lose it in jit."""
        ...

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes it can tell apart; a run that needs another is refused."""
        ...

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path (relative to the backbone)."""
        ...

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh parameters and state for inputs shaped like `x`."""
        ...

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features by name, and the state after the pass (unchanged unless mode is 'train')."""
        ...


@runtime_checkable
class Staged(Protocol):
    """Optional for a Backbone: runs in pieces, so a frozen prefix can be run apart and cached.

    Running all stages in turn equals `apply`. `carry` is the input `x` for `start == 0`, else
    what the stage before returned. `start` and `stop` count stages like a slice."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep; every leaf's stage is one of them."""
        ...

    def apply_stages(
        self,
        params: Params,
        state: State,
        carry: PyTree,
        *,
        start: int,
        stop: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[PyTree, Features, State]:
        """(carry for stage `stop`, features that arose in start..stop, state)."""
        ...


@runtime_checkable
class ForeignNames(Protocol):
    """Optional for a Backbone: how files of other libraries speak of it."""

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """One table for each kind of file; `tlx.weights.matching` takes the one that fits best."""
        ...


@runtime_checkable
class Traced(Protocol):
    """Optional for a Backbone: shows what lies between its features, so that `tlx weights verify`
    can say which layer is the first that differs."""

    def trace(self, params: Params, state: State, x: Array) -> Mapping[str, Array]:
        """What every layer returns in mode 'eval', in the order in which they end; `a/b` is the
        one whose leaves begin with `a/b/`."""
        ...


@runtime_checkable
class Head(Protocol):
    """What turns features into answers, and knows its task: loss, metric, prediction.

    A factory of heads may say by an attribute `label_kind` (`tlx.types.LabelKind`) what a label is
    to them. Of its parameters the core fills `classes`, and of numbers in the labels `outputs`, how
    many, their `names`, and `mean` and `std` over the training split."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the features it reads."""
        ...

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """The reported metric that the best epoch and early stopping go by."""
        ...

    def init(self, rng: Array, features: Features) -> Variables:
        """Fresh parameters and state for features shaped like these."""
        ...

    def apply(
        self,
        params: Params,
        state: State,
        features: Features,
        *,
        inputs: Mapping[str, PyTree],
        rng: Array,
        mode: Mode,
    ) -> tuple[PyTree, State]:
        """Outputs (B,...) and state; `inputs` are the batch's, whose shapes dense outputs have."""
        ...

    def loss(self, outputs: PyTree, batch: Batch) -> Array:
        """(B,) one loss per example, padding included (its weight is applied by the core)."""
        ...

    def predict(self, outputs: PyTree) -> Mapping[str, Array]:
        """What a user gets, each (B,...): class numbers, probabilities, a mask."""
        ...

    def measure(self, outputs: PyTree, batch: Batch) -> Mapping[str, Array]:
        """Fixed-size numbers that add up over batches and hosts; `batch.weight` is respected."""
        ...

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics from the summed measures; holds the metric that `selection` names."""
        ...


@runtime_checkable
class Standardises(Protocol):
    """Optional for a Head: what it learns is in other units than the labels."""

    def in_units(self, params: Params) -> Params:
        """Parameters of the head whose outputs are in the labels' units, for other libraries."""
        ...


# --- D: the distance --------------------------------------------------------------------------


class Divergence(Protocol):
    """A scalar. It asks for what it needs by keyword-only parameter names, which are words of
    `tlx.quantities`; a bare function whose parameters are all words is a divergence, too."""

    def __call__(self, **words: Any) -> Array:
        """The divergence of this batch, a scalar."""
        ...


@runtime_checkable
class Learns(Protocol):
    """Optional for a Divergence: parameters of its own, which reach it as `own`, `own_state`."""

    def init(self, *, model: Model, source: Network | None, batch: Batch, rng: Array) -> Variables:
        """Fresh parameters and state of its own; `source` as for `Prepares`."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """Optional for a Divergence: computed once before the first step, delivered as `prepared`.

    `batches` are un-augmented training batches, each example once. `source` is the network that
    it compares with, None where it asks for no word that begins with `source_`."""

    def prepare(
        self,
        *,
        model: Model,
        variables: Variables,
        source: Network | None,
        batches: Iterable[Batch],
        rng: Array,
    ) -> PyTree:
        """Any pytree of arrays."""
        ...


@runtime_checkable
class Records(Protocol):
    """Optional for a Divergence: computed once for every training example before the first step,
    delivered as `recorded` for those of a batch.

    It asks for words of `tlx.quantities.PER_EXAMPLE`, which have the values that un-augmented
    pictures give in mode 'eval' at the start."""

    def record(self, **words: Any) -> Mapping[str, Array]:
        """Whatever is to be kept of each example, every entry (B,...)."""
        ...


@runtime_checkable
class Reads(Protocol):
    """Optional for a Divergence that learns, prepares or records: the features that it ever reads.
    A network ends at the last feature that anybody reads, and stays whole where that is unsaid."""

    @property
    def reads(self) -> tuple[str, ...] | None:
        """Names of features, of the model or of its source; what their heads need is known. None
        where that depends on the network."""
        ...


# --- min: the strategy ------------------------------------------------------------------------


@runtime_checkable
class Strategy(Protocol):
    """Which leaves move when, and what is fed."""

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Numbers of its own (a decoder, an average); empty dicts where there are none."""
        ...

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """The phases; their steps add up to `steps`."""
        ...


class Finished(NamedTuple):
    """The variables to test and save, and in a sentence how they came about ('' for nothing to
    say)."""

    variables: Variables
    note: str = ""


@runtime_checkable
class Finishes(Protocol):
    """Optional for a Strategy: a last change to the selected variables (soups, WiSE-FT) before
    they are tested and saved."""

    def finish(
        self,
        *,
        model: Model,
        start: Variables,
        variables: Variables,
        batches: Callable[[], Iterable[Batch]],
        score: Callable[[Variables], float],
    ) -> Finished:
        """What to test and save. `start` are the variables before the first step, `variables`
        the best step's; `batches()` are un-augmented training batches and `score` is the metric
        on the validation split, higher is better."""
        ...


class Brought(NamedTuple):
    """What a preset adds to a run file: divergences, and the sources that they compare with."""

    divergences: tuple[DivergenceConfig, ...] = ()
    sources: Mapping[str, SourceConfig] = {}


@runtime_checkable
class Brings(Protocol):
    """Optional for a Strategy: a preset that stands for entries of the run file."""

    @property
    def brings(self) -> Brought:
        """As if they stood in the run file."""
        ...
