"""The kinds of values that an example has: an image, a text, a row of a table, a label, a mask.

A data set says which fields its examples have, and which of them are targets. A field reads its
values, whatever form they are stored in or handed over, and encodes those that are compared with a
network's outputs; how a network wants those that it is given says its input
(`tlx.contracts.input`). A field is a frozen dataclass. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

PyTree: TypeAlias = Any


@runtime_checkable
class Field(Protocol):
    """One kind of value. `kind` is what an input asks for, and what a port is bound by: 'image',
    'text', 'row', 'label'."""

    kind: ClassVar[str]

    def read(self, raw: Any, name: str) -> Any:
        """The value, of whatever form a source gives it in: the one way for training, evaluation
        and prediction. Raises DataError, calling it `name`, for what is none."""
        ...

    def encode(self, value: Any, name: str) -> PyTree:
        """The arrays, of a fixed shape, that a head and a metric compare with outputs. Raises
        DataError, calling it `name`, for what cannot be encoded."""
        ...


@runtime_checkable
class FitsField(Protocol):
    """Optional for a Field: something of it is learnt from the training rows alone."""

    def fitted(self, values: Iterable[Any]) -> Any:
        """The field with what it lacks; what is known already stays."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Optional for a Field: encoded arrays, or predictions like them, as a user reads them."""

    def decode(self, array: Any) -> Any:
        """Of one example: a class by its name, a number in its units."""
        ...


@runtime_checkable
class HasClasses(Protocol):
    """Optional for a Field: its values are classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of their numbers."""
        ...


@runtime_checkable
class HasUnits(Protocol):
    """Optional for a Field: its values are real numbers."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """What they are called, one for each; empty where nobody says."""
        ...


@runtime_checkable
class ReadsMany(Protocol):
    """Optional for a Field: one value or several, in whatever form a caller has them. Without it a
    list or a tuple is several values, and anything else is one."""

    def each(self, given: Any) -> Iterator[tuple[str, Any]]:
        """What an error calls each value, and the value, read. Raises DataError for what is
        none."""
        ...


@runtime_checkable
class Shown(Protocol):
    """Optional for a Field: how a value looks in a report and beside a prediction."""

    def show(self, value: Any) -> np.ndarray | str:
        """Pixels (H,W,3) uint8, or a text."""
        ...


@runtime_checkable
class StoredInFiles(Protocol):
    """Optional for a Field: a value may be a file of its own, so that a folder stands for many."""

    @property
    def endings(self) -> frozenset[str]:
        """How the names of such files end."""
        ...

    def unread_hint(self, files: Sequence[Path]) -> str:
        """What would help to read files that cannot be read; empty where nothing is known."""
        ...


@runtime_checkable
class ListedInFiles(Protocol):
    """Optional for a Field: one file may hold many values, such as the rows of a table."""

    @property
    def list_endings(self) -> frozenset[str]:
        """How the names of such files end."""
        ...

    def each_in(self, file: Path) -> Iterator[tuple[str, Any]]:
        """What each value in a file is called, and the value, as `read` takes it. Raises DataError
        for a file that holds none."""
        ...


@runtime_checkable
class DrawsSheet(Protocol):
    """Optional for a Field: many values on one picture."""

    def draw_sheet(self, rows: Mapping[str, Sequence[Any]], file: str) -> None:
        """Write a picture of values in rows, each with its name."""
        ...


class Print(NamedTuple):
    """What tells a value from others: a digest that only the same value has, whatever `near` needs
    of it, whether it is the same all over, so that it shows nothing, and whether the same value is
    for `sure` the same thing, as it is of photos, and not of rows of a few words."""

    digest: bytes
    near: Any = None
    flat: bool = False
    sure: bool = True


@runtime_checkable
class Fingerprinted(Protocol):
    """Optional for a Field: values are told apart, so that copies and leaks are found."""

    def fingerprint(self, value: Any) -> Print:
        """Of one value."""
        ...

    def nearly_same(self, first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
        """Positions in both of values that are nearly the same and not the same; of the second at
        most one each."""
        ...


class Warp(NamedTuple):
    """A change of the plane: `matrix` (2,3) takes a point (y, x, 1) of the result to the point of
    the original that is shown there. Pixel i covers [i, i+1], so that its centre is i + 1/2; `size`
    is the (H,W) of the result, `original` that of the original. Under `vmap` both are static."""

    matrix: Any
    size: tuple[int, int]
    original: tuple[int, int]


@runtime_checkable
class Spatial(Protocol):
    """Optional for a Field: its values lie on the plane of an image, and move with it."""

    def place(self, value: Any, warp: Warp, name: str) -> PyTree:
        """On the host, in place of `encode`: the arrays of a value after a warp. Raises DataError,
        calling it `name`, for one that does not lie on the plane of the original."""
        ...

    def warp(self, arrays: PyTree, warp: Warp) -> PyTree:
        """On the device, in jit under `vmap`: the arrays of one example after a warp."""
        ...


@runtime_checkable
class Restores(Protocol):
    """Optional for a Field that is Spatial: what is predicted in its place goes back to the plane
    that a value came from. It is what a head predicts under the name of the field's `kind`."""

    def restore(self, array: np.ndarray, warp: Warp) -> np.ndarray:
        """On the host: a prediction of one example, made on the result of `warp`, as it lies on the
        original."""
        ...


@runtime_checkable
class Stratifies(Protocol):
    """Optional for a Field: which of the classes an example has, to draw splits by."""

    def strata(self, value: Any) -> Sequence[int]:
        """The numbers of its classes."""
        ...


@runtime_checkable
class Sampled(Protocol):
    """Optional for a Field: values for the conformance kit."""

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[Any]:
        """So many values."""
        ...


Fields: TypeAlias = Mapping[str, Field]
"""The fields of a data set by name."""
