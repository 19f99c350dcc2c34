"""The contracts of what lies outside of a model: data, weights, scores, and who listens to a run.

`tlx.protocols` names them beside the others. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tlx.contracts.input import Inputs
from tlx.types import DataInfo, Event, Tensors

if TYPE_CHECKING:
    import numpy as np
    from jax import Array

    from tlx.contracts.field import Warp


@runtime_checkable
class Split(Protocol):
    """Random access to raw examples, nothing else. An example is a mapping of the fields that the
    source's `info` names; each value is in any form that its field can read."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


@runtime_checkable
class Labelled(Protocol):
    """Optional for a Split: all labels at once, without reading any picture."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) or (N,C), in the split's order."""
        ...


@runtime_checkable
class Named(Protocol):
    """Optional for a Split: where an example came from, to be named in what is said of it."""

    def called(self, index: int) -> str:
        """A file, or whatever its owner finds it by."""
        ...


@runtime_checkable
class DataSource(Protocol):
    """A data set with named splits out of 'train', 'val', 'test' (a lone 'train' is cut)."""

    @property
    def info(self) -> DataInfo:
        """What it is and how large."""
        ...

    def split(self, name: str) -> Split:
        """The split of a name in `info.splits`."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """A random change of one training picture: (H,W,C) float 0..1 to (H',W',C) float 0..1.
    Runs in jit on the device under `vmap`; the same key gives the same picture."""

    def __call__(self, rng: Array, image: Array) -> Array:
        """The changed picture."""
        ...


@runtime_checkable
class Mixes(Protocol):
    """In place of an Augmentation: makes one picture of two training pictures. The core draws the
    partners within a batch and weighs the losses for both labels (`tlx.data.mixing`)."""

    def mix(self, rng: Array, image: Array, other: Array) -> tuple[Array, Array]:
        """The picture (H,W,C) float 0..1 that becomes of two like it, and a scalar from 0 to 1: how
        much the label of `image` counts, the rest being that of `other`. Runs in jit on the device
        under `vmap`; the same key gives the same."""
        ...


@runtime_checkable
class KeepsPlaces(Protocol):
    """Optional for an Augmentation or one that Mixes: whether a label of every pixel stays right.
    What says neither this nor how it moves them (`Geometric`) is refused beside targets that lie
    on the plane."""

    @property
    def keeps_places(self) -> bool:
        """True where pixels change their values alone and not their places; of what Mixes, where
        every pixel is of the two pictures by the same `share`."""
        ...


@runtime_checkable
class Geometric(Protocol):
    """Optional for an Augmentation: how it moves what is in an image. Then it is allowed beside
    targets that lie on the image's plane (`tlx.contracts.field.Spatial`), which move alike."""

    def draw(self, rng: Array, size: tuple[int, int]) -> Warp:
        """What a call with the same key does to the plane of an image of a `size` (H,W). Runs in
        jit under `vmap`; the sizes of the warp are plain numbers, its matrix float32."""
        ...


@runtime_checkable
class WeightSource(Protocol):
    """Somebody's numbers for a model."""

    def tensors(self) -> Tensors:
        """All that the file holds, under its own names. WeightsError for a file that is missing,
        damaged or not the one that was meant; nothing in it is ever executed."""
        ...


@runtime_checkable
class KnowsInput(Protocol):
    """Optional for a WeightSource: how examples reached the network in training."""

    @property
    def input(self) -> Inputs | None:
        """The preprocessing these weights were trained with; None where this file does not say."""
        ...


@runtime_checkable
class KnowsClasses(Protocol):
    """Optional for a WeightSource: what the classes of the head in its file are called."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Their names, in output order; None where this file does not say."""
        ...


@runtime_checkable
class Architected(Protocol):
    """Optional for a WeightSource: its file says what network it is of."""

    @property
    def architecture(self) -> str:
        """What it calls the network, such as "resnet18"; empty where it does not say."""
        ...


@runtime_checkable
class KnowsHead(Protocol):
    """Optional for a WeightSource: which head its numbers belong to."""

    @property
    def head(self) -> tuple[str, Mapping[str, Any]] | None:
        """The reference of the head and its options; None where there is none."""
        ...


@runtime_checkable
class Writes(Protocol):
    """Optional for a WeightSource: its format can be written, too (`tlx export`)."""

    def write(self, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Write the file that it reads, as a whole or not at all. `about` is what a reader may want
        to know beside the numbers: strings, numbers, lists and mappings of them."""
        ...


@runtime_checkable
class Noted(Protocol):
    """Optional for a DataSource or a WeightSource: what it found, for the user to read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Full sentences."""
        ...


@runtime_checkable
class Score(Protocol):
    """How promising a source model is for a target, without training it; higher is better.

    Parameters are keyword-only words of `tlx.contracts.scoring`; a bare function whose parameters
    are all words is a score, too. It does not depend on the order of the examples nor on how the
    classes are numbered."""

    def __call__(self, **words: Any) -> float | np.ndarray:
        """One finite number, or (N,) finite terms, one for each example, whose mean it is: then
        intervals come from the terms, without computing it again. ScoreError where it has no
        answer, such as for a single class."""
        ...


@runtime_checkable
class Sink(Protocol):
    """A listener to a run: the console, a log file, a report."""

    def emit(self, event: Event) -> None:
        """Hear one event."""
        ...

    def close(self) -> None:
        """Write what is left; called twice, the second does nothing."""
        ...
