"""Names for the data that flows through a run.

What flows through `jit` is a `NamedTuple` or a mapping of arrays, so it is a pytree.
`DataInfo` describes data and stays outside of `jit`.
Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from jax import Array

    from tlx.contracts.field import Fields
    from tlx.model import Model

PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
"""Keyed `backbone`, `head`, `strategy`, `divergence/<name>`."""
State: TypeAlias = PyTree
"""Keyed like `Params`: batch statistics, averages, whatever is not differentiated."""
Features: TypeAlias = "Mapping[str, Array]"

Mode: TypeAlias = Literal["train", "tune", "eval", "stochastic"]
"""train: dropout on, batch statistics used and updated; tune: dropout on, running
statistics used and kept; eval: no dropout, running statistics used and kept; stochastic: as
train, but each channel is normalised by the batch or by the running statistics at random."""
Precision: TypeAlias = Literal["float32", "bf16"]
"""In what a network's body computes while it is trained; see `tlx.devices.precision`."""
FeatureKind: TypeAlias = Literal["map", "tokens", "vector"]
LeafKind: TypeAlias = Literal["kernel", "bias", "norm", "embedding"]
LabelKind: TypeAlias = Literal["class", "multilabel", "number"]
"""What the label of an example is to a head: the number of one class; 0 or 1 for every class; one
or several real numbers."""
LOCATION = "location"
Location: TypeAlias = Annotated[str, LOCATION]
"""Text of an option that says where a file or a folder lies. What a run keeps has it as an absolute
path, so that the run is found from any folder."""
Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]
NormPolicy: TypeAlias = Literal["train", "frozen", "frozen_affine", "recompute", "stochastic"]
"""train: normalise by the batch and move the running statistics of what is not frozen;
frozen: normalise by the running statistics and keep them;
frozen_affine: as frozen, and scales and offsets (leaves of kind 'norm') do not move either;
recompute: as train, and before every validation the running statistics are computed anew over
the un-augmented training pictures;
stochastic: as train, each channel by the batch or by the running statistics at random
(StochNorm, Kou et al. 2020)."""


class FrozenFeatures(NamedTuple):
    """What the frozen stages give for a batch: the carry for the next stage (None where there is no
    next), as it computes on it, and the features that arose in them, float32."""

    carry: PyTree
    features: Features


class Mixed(NamedTuple):
    """What examples were mixed with: the other ones' targets, and how much, `share` (B,), an
    example's own targets count."""

    targets: Mapping[str, PyTree]
    share: Any


class Geometry(NamedTuple):
    """Where the planes of B examples come from: `matrix` (B,2,3) takes a point (y, x, 1) of one to
    the original's (`tlx.contracts.field.Warp`), `size` (B,2) is the original's (H,W)."""

    matrix: Any
    size: Any


class Batch(NamedTuple):
    """B examples, every leaf (B,...): `inputs`, what networks are given, and `targets`, what is
    compared with their outputs, by the names of their fields; `index` (B,), the number of an
    example in its split; `weight` (B,), 0 for padding.

    Where there is one, `domain` is a batch of the second stream, without targets; `frozen` is what
    the frozen stages of the model give for the inputs, where that is known; `mixed` says what the
    examples were mixed with (`tlx.data.mixing`); `geometry` says what was done to their planes on
    the host where a target lies on them."""

    inputs: Mapping[str, PyTree]
    targets: Mapping[str, PyTree]
    index: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Any
    domain: Batch | None = None
    frozen: FrozenFeatures | None = None
    mixed: Mixed | None = None
    geometry: Geometry | None = None


class RowBatch(NamedTuple):
    """A batch that only says which rows of a table on the device it holds, `rows` (B,), those of
    the second stream's, `domain` (B,), and the `weight` (B,) of each (`tlx.devices.rows`)."""

    rows: Any
    weight: Any
    domain: Any = None


AnyBatch = TypeVar("AnyBatch", Batch, RowBatch)


def unlabelled(inputs: Mapping[str, PyTree]) -> Batch:
    """A batch of inputs (B,...) alone: without targets, numbered from 0, none of them padding."""
    import jax
    import numpy as np

    count = jax.tree.leaves(inputs)[0].shape[0]
    return Batch(inputs, {}, np.arange(count, dtype=np.int32), np.ones(count, np.float32))


def with_entry(batch: Batch, entry: str, arrays: PyTree) -> Batch:
    """The batch with other arrays (B,...) in an entry of its inputs."""
    return batch._replace(inputs={**batch.inputs, entry: arrays})


class FeatureSpec(NamedTuple):
    """One named output of a backbone: 'map' (B,h,w,C), 'tokens' (B,T,C) or 'vector' (B,C)."""

    name: str
    kind: FeatureKind
    channels: int
    stride: int | None = None


class LeafInfo(NamedTuple):
    """What a parameter is: the stage it belongs to, its kind, and which axes of a kernel count its
    outputs (one or several; None where that is not known). `layers` are the axes that count
    layers of the same form (of a scan, say), each of which is a parameter of its own; all other
    axes of a kernel count inputs."""

    stage: str
    kind: LeafKind
    out: int | tuple[int, ...] | None = -1
    layers: tuple[int, ...] = ()


class Variables(NamedTuple):
    """All numbers of a model: what is differentiated and what is not."""

    params: Params
    state: State


class Network(NamedTuple):
    """A model with its numbers."""

    model: Model
    variables: Variables


class Forward(NamedTuple):
    """What one pass produced. `loss` (B,); `inputs` what was fed, by field;
    `features` and `outputs` of the model being trained; `state` after the pass."""

    loss: Array
    inputs: Mapping[str, PyTree]
    features: Features
    outputs: PyTree
    state: State


class TrainState(NamedTuple):
    """Everything that changes while training. `ledger` holds whatever else decides the
    future: the best value so far with its loss, the step it was reached at, evaluations since."""

    step: Array
    params: Params
    state: State
    opt_state: PyTree
    rng: Array
    ledger: Mapping[str, Array]


class Constants(NamedTuple):
    """Everything a step reads and never changes, passed as an argument so that it is traced.

    `sources`: name -> Variables of a source model; `prepared`: divergence name -> what its
    `prepare` returned; `recorded`: divergence name -> `index` (N,), sorted numbers of examples,
    and `values`, what its `record` returned for each (N,...); `hyper`: `learning_rate`,
    `weight_decay`, `steps` and `divergence` (name -> weight), all scalars; `rows`: split -> a batch
    of all rows (N,...) that a `RowBatch` numbers, see `tlx.devices.rows`."""

    sources: Mapping[str, Variables]
    prepared: Mapping[str, PyTree]
    recorded: Mapping[str, PyTree]
    hyper: Mapping[str, Any]
    rows: Mapping[str, Batch] = {}


class Tensors(NamedTuple):
    """What a file of weights holds, under its own names; `origin` is what messages call it and
    `sha256` is the file's, so that a run can be held against the weights it started from."""

    values: Mapping[str, np.ndarray]
    origin: str
    sha256: str = ""


class LoadedLeaf(NamedTuple):
    """A leaf that a file filled: its path, the name in the file, and what was done to the numbers
    beyond their layout (empty for nothing)."""

    path: str
    name: str
    shape: tuple[int, ...]
    change: str = ""


class FreshLeaf(NamedTuple):
    """A leaf that kept its random value, and why."""

    path: str
    shape: tuple[int, ...]
    why: str


class SkippedTensor(NamedTuple):
    """A tensor of the file that was not used, and why; `part` is 'backbone' for one that belongs to
    the network and has no leaf there, so that it is another network, 'head' for one of a head."""

    name: str
    shape: tuple[int, ...]
    why: str
    part: str = ""


class LoadReport(NamedTuple):
    """What became of every leaf of the model and of every tensor of the file; `dialect` is the
    table of names that was used, empty where the file has leaf paths; `prefix` stands before the
    names of the network in the file."""

    loaded: tuple[LoadedLeaf, ...]
    initialised: tuple[FreshLeaf, ...]
    skipped: tuple[SkippedTensor, ...]
    dialect: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    prefix: str = ""


class Event(NamedTuple):
    """One thing a run tells its sinks; the kinds and their data are listed in `tlx.sinks`."""

    kind: str
    step: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class DataInfo:
    """What a data source is. `fields`: what its examples have, by name; `targets`: those of them
    that are compared with a network's outputs, the others being its inputs; `splits` name -> number
    of examples; `fingerprint` changes whenever the examples, their order or the label order
    change."""

    name: str
    fields: Fields
    splits: Mapping[str, int]
    fingerprint: str
    targets: tuple[str, ...] = ("label",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields that a network may be given."""
        return tuple(name for name in self.fields if name not in self.targets)

    @property
    def label(self) -> str | None:
        """The target that is a label; None where there is none."""
        kinds = {name: self.fields[name].kind for name in self.targets if name in self.fields}
        return next((name for name, kind in kinds.items() if kind == "label"), None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the first target that has classes their names in label order, else nothing."""
        found = (getattr(self.fields.get(name), "classes", ()) for name in self.targets)
        return next((tuple(classes) for classes in found if classes), ())

    @property
    def numbers(self) -> tuple[str, ...]:
        """What the first target of numbers has to say of their names."""
        found = (getattr(self.fields.get(name), "numbers", ()) for name in self.targets)
        return next((tuple(numbers) for numbers in found if numbers), ())
