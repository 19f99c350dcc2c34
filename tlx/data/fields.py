"""Field kinds that are compared with outputs: labels and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Field, HasClasses, HasUnits, ReadsMany
from tlx.errors import DataError, did_you_mean


@final
@dataclass(frozen=True)
class ClassLabel:
    """One class of `classes`, by its number or its name."""

    classes: tuple[str, ...]
    kind: ClassVar[str] = "label"

    def read(self, raw: Any, name: str) -> Any:
        """The number of the class."""
        if isinstance(raw, str):
            if raw not in self.classes:
                raise DataError(f"{name} is {raw!r}, no class.{did_you_mean(raw, self.classes)}")
            return self.classes.index(raw)
        return raw

    def encode(self, value: Any, name: str) -> np.ndarray:
        """()."""
        return _plain(value)

    def decode(self, array: Any) -> str:
        """The name of a class."""
        return self.classes[int(array)]

    def strata(self, value: Any) -> Sequence[int]:
        """The class itself."""
        return (int(value),)


@final
@dataclass(frozen=True)
class MultiLabel:
    """Any of `classes`: 0 or 1 for each, (K,)."""

    classes: tuple[str, ...]
    kind: ClassVar[str] = "label"

    def read(self, raw: Any, name: str) -> Any:
        """As it is."""
        return raw

    def encode(self, value: Any, name: str) -> np.ndarray:
        """(K,)."""
        return _plain(value)

    def decode(self, array: Any) -> list[str]:
        """The names of those that apply."""
        return [one for one, there in zip(self.classes, np.ravel(array), strict=True) if there]


@final
@dataclass(frozen=True)
class Number:
    """One real number, or one for each name of `numbers`."""

    numbers: tuple[str, ...] = ()
    kind: ClassVar[str] = "label"

    def read(self, raw: Any, name: str) -> Any:
        """As it is."""
        return raw

    def encode(self, value: Any, name: str) -> np.ndarray:
        """() or (K,)."""
        return _plain(value)


def _plain(value: Any) -> np.ndarray:
    """Numbers, of which true is 1."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == bool else array


def each_value(field: Field, given: Any) -> Iterator[tuple[str, Any]]:
    """One value or several of a field as a caller hands them over, read, each with what an error
    calls it. Raises DataError for what is none."""
    if isinstance(field, ReadsMany):
        yield from field.each(given)
        return
    if not isinstance(given, list | tuple):
        yield f"The {field.kind}", field.read(given, f"The {field.kind}")
        return
    for number, one in enumerate(given):
        name = f"The {field.kind} [{number}]"
        yield name, field.read(one, name)


def classes_of(field: Field) -> tuple[str, ...]:
    """The classes of a field; none of one that has none."""
    return tuple(field.classes) if isinstance(field, HasClasses) else ()


def numbers_of(field: Field) -> tuple[str, ...]:
    """What the numbers of a field are called; nothing of one that has none."""
    return tuple(field.numbers) if isinstance(field, HasUnits) else ()


def label_field(
    classes: tuple[str, ...], numbers: tuple[str, ...] = (), several: bool = False
) -> Field:
    """The field of a label that is one of `classes`, `several` of them, or numbers."""
    if classes:
        return MultiLabel(classes) if several else ClassLabel(classes)
    return Number(numbers)
