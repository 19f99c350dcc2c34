"""How a network wants rows: numbers standardised, categories as one of several.

All that this takes (means, medians, vocabularies) is learnt of the training rows alone, once, and
belongs to the network from then on. A missing number is the median, and says so in a place of its
own where training had missing ones; a category that training did not have is none of those it had,
since nothing was learnt of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError, DataError, listed
from tlx_table.cells import as_name, as_number, decimal_mark, quoted
from tlx_table.row_field import Cell, refuse_columns

UNSAID = 4
"""The numbers of a row that is only there to be looked at, where nobody says its columns."""
FAR = 1e18
"""The deviations from the mean that are told apart: more have no square in single precision."""
FEW = 20
"""Different texts that a column may have, however few rows there are."""


@final
@dataclass(frozen=True)
class RowInput:
    """Rows with the columns `numeric` and `categorical`, as (B,D) float32.

    Of a number `(x - mean) / std` is given, of a missing one that of `fills`; then, for each of the
    columns `gaps`, 1 where it is missing; then, for each categorical column, a 1 at the place of
    its category in its `vocabulary`, in which None is a missing one. `decimal` divides whole from
    decimal places in texts. All but `fill`, what a missing number is taken for, is learnt
    (`fitted`)."""

    fill: Literal["median", "mean"] = "median"
    numeric: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fills: tuple[float, ...] = ()
    gaps: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    vocabulary: tuple[tuple[str | None, ...], ...] = ()
    decimal: str = "."
    kind: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        numbers = {len(self.numeric), len(self.mean), len(self.std), len(self.fills)}
        if len(numbers) > 1 or len(self.categorical) != len(self.vocabulary):
            raise ConfigError(
                "A RowInput has a mean, a std and a fill for each numeric column, and a vocabulary "
                "for each categorical one. Which columns are which, [data.fields] says."
            )
        if unknown := [column for column in self.gaps if column not in self.numeric]:
            raise ConfigError(f"The gap {unknown[0]!r} of a RowInput is no numeric column.")

    @property
    def columns(self) -> tuple[str, ...]:
        """All that a row has."""
        return self.numeric + self.categorical

    def encode(self, *values: Any, name: str) -> dict[str, np.ndarray]:
        """`numbers` (K,) float32, standardised; `missing` (G,) float32 of 0 and 1; `categories`
        (C,) int32, from 1 on the places in the vocabulary, 0 for a category that is none of it.
        Raises DataError for a column that is lacking or unknown, and for a number that is none."""
        row: dict[str, Cell] = {}
        for value in values:
            row |= value
        refuse_columns(row, self.columns, name)
        fills = zip(self.numeric, self.fills, strict=True)
        numbers = [self._number(row[column], column, fill, name) for column, fill in fills]
        with np.errstate(over="ignore"):  # it is clipped
            scaled = (np.asarray(numbers, np.float64) - self.mean) / self.std
        found = zip(self.categorical, self.vocabulary, strict=True)
        codes = [_place(as_name(row[column]), words) for column, words in found]
        return {
            "numbers": np.clip(scaled, -FAR, FAR).astype(np.float32),
            "missing": np.asarray([row[c] is None for c in self.gaps], np.float32),
            "categories": np.asarray(codes, np.int32),
        }

    def prepare(self, arrays: Mapping[str, Array]) -> Array:
        """(B,D) float32: numbers, what is missing of them, categories."""
        codes = arrays["categories"]
        words = [
            jax.nn.one_hot(codes[:, place] - 1, len(words), dtype=jnp.float32)
            for place, words in enumerate(self.vocabulary)
        ]
        return jnp.concatenate([arrays["numbers"], arrays["missing"], *words], axis=-1)

    def example(self) -> dict[str, Any]:
        """The shapes of one row."""
        count = len(self.numeric) if self.columns else UNSAID
        return {
            "numbers": jax.ShapeDtypeStruct((1, count), np.float32),
            "missing": jax.ShapeDtypeStruct((1, len(self.gaps)), np.float32),
            "categories": jax.ShapeDtypeStruct((1, len(self.categorical)), np.int32),
        }

    def fitted(
        self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]
    ) -> RowInput:
        """With what training rows say; what came with weights stays, and the rows have to have its
        columns. Raises ConfigError for columns that cannot be learnt from."""
        if self.columns:
            if known := {column: None for field in fields for column in field.columns}:
                refuse_columns(known, self.columns, "A row of the data")
            return self
        columns = _columns(values())
        stated = {c: True for field in fields for c in field.numeric}
        stated |= {c: False for field in fields for c in field.categorical}
        mark = _mark([c for c in columns.values() if _kind(c) is not False])
        numeric = {c: cells for c, cells in columns.items() if stated.get(c, _kind(cells))}
        found = {c: _numbers(cells, c, mark, self.fill) for c, cells in numeric.items()}
        others = {c: cells for c, cells in columns.items() if c not in numeric}
        return replace(
            self,
            numeric=tuple(found),
            mean=tuple(one.mean for one in found.values()),
            std=tuple(one.std for one in found.values()),
            fills=tuple(one.fill for one in found.values()),
            gaps=tuple(c for c, cells in numeric.items() if None in cells),
            categorical=tuple(others),
            vocabulary=tuple(_words(cells, c, c in stated) for c, cells in others.items()),
            decimal=mark,
        )

    def _number(self, cell: Cell, column: str, fill: float, name: str) -> float:
        number = fill if cell is None else as_number(cell, self.decimal)
        if number is None:
            raise DataError(
                f"{name} has {quoted(cell)} in the column {column!r}, which held numbers alone in "
                f"training. Write a number, or nothing where none is known; if the column is one "
                f"of words, [data.fields] says so: categorical = [{column!r}]."
            )
        return number


class _Numbers(NamedTuple):
    mean: float
    std: float
    fill: float


def _columns(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Cell]]:
    """Column -> its cells. Raises DataError for rows that differ in their columns."""
    found: dict[str, list[Cell]] = {}
    for number, row in enumerate(rows):
        cells = [pair for value in row for pair in value.items()]
        names = dict.fromkeys(column for column, _ in cells)
        if len(names) < len(cells):
            raise ConfigError("Two rows in one have a column of the same name; rename one.")
        if number:
            refuse_columns(names, tuple(found), f"Row {number} of training")
        for column, cell in cells:
            found.setdefault(column, []).append(cell)
    if not found:
        raise DataError("The rows have no columns to learn from.")
    return found


def _kind(cells: Sequence[Cell]) -> bool:
    """Whether all are numbers; texts that begin with a 0, as codes do, are none."""
    there = [cell for cell in cells if cell is not None]
    codes = (isinstance(c, str) and len(c) > 1 and c[0] == "0" and c.isdecimal() for c in there)
    numbers = all(as_number(c, ".") is not None or as_number(c, ",") is not None for c in there)
    return bool(there) and numbers and not any(codes)


def _mark(columns: Sequence[Sequence[Cell]]) -> str:
    """What divides whole from decimal places in all columns of numbers."""
    every = [[cell for cell in cells if isinstance(cell, str)] for cells in columns]
    marks = {decimal_mark(texts) for texts in every if any("," in text for text in texts)}
    marks = marks - {None} or marks
    if marks <= {".", ","} and len(marks) < 2:
        return next(iter(marks), ".") or "."
    odd = next(text for texts in every for text in texts if "," in text)
    raise DataError(
        f"The numbers hold commas, such as {odd!r}, which may set off thousands or decimal places. "
        f"Write numbers with a decimal point and without commas."
    )


def _numbers(cells: Sequence[Cell], column: str, mark: str, fill: str) -> _Numbers:
    """What a column of numbers is standardised by, missing ones ignored."""
    there = [as_number(cell, mark) for cell in cells if cell is not None]
    if not there:
        raise ConfigError(
            f"The column {column!r} has no cell in any of the {len(cells)} training rows, so there "
            f"is nothing to learn of it. Leave it out: [data.fields] says which columns are read."
        )
    if None in there:
        odd = next(c for c in cells if c is not None and as_number(c, mark) is None)
        raise DataError(f"The column {column!r} is stated to be numeric, and holds {quoted(odd)}.")
    numbers = np.asarray(there, np.float64)
    std = float(numbers.std())
    middle = np.median(numbers) if fill == "median" else numbers.mean()
    return _Numbers(float(numbers.mean()), std if std > 0 else 1.0, float(middle))


def _words(cells: Sequence[Cell], column: str, stated: bool) -> tuple[str | None, ...]:
    """The categories of a column in order, None last where one is missing."""
    names = {as_name(cell) for cell in cells}
    words = sorted(name for name in names if name is not None)
    if not stated and len(words) > max(FEW, len(cells) // 2):
        raise ConfigError(
            f"The column {column!r} holds {len(words)} different texts in {len(cells)} training "
            f"rows, such as {listed(map(repr, words[:3]))}, as names and free texts do, of which "
            f"nothing can be learnt so. Leave it out, or say that they are categories: "
            f"[data.fields] has columns and categorical."
        )
    return (*words, *([None] if None in names else []))


def _place(name: str | None, words: Sequence[str | None]) -> int:
    return words.index(name) + 1 if name in words else 0
