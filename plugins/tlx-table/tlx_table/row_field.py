"""Rows of a table as a kind of field: a cell for each column, as it is written.

A cell is a number, a text or None where nothing stands; what is a number and what a category, an
input decides of the training rows (`tlx_table.row_input`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, final

import numpy as np

from tlx.contracts.field import Print
from tlx.errors import ConfigError, DataError, did_you_mean, listed
from tlx_table.cells import as_number, is_missing, quoted
from tlx_table.table_file import PARQUET, TEXT, open_table

Cell: TypeAlias = "int | float | str | None"
Cells: TypeAlias = "dict[str, Cell]"
SHOWN = 12
"""Cells of a row that are shown."""


@final
@dataclass(frozen=True)
class Row:
    """Rows with these `columns`, in order; where none are named, each row's own. `numeric` and
    `categorical` are columns that are meant so whatever their cells look like, such as the number
    of a class on a ship."""

    columns: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    kind: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        stated = (*self.numeric, *self.categorical)
        if twice := [c for i, c in enumerate(stated) if c in stated[:i]]:
            raise ConfigError(f"The column {twice[0]!r} is stated twice; it is of one kind.")
        if unknown := [c for c in stated if self.columns and c not in self.columns]:
            raise ConfigError(
                f"The rows have no column {unknown[0]!r}.{did_you_mean(unknown[0], self.columns)} "
                f"They have {listed(self.columns)}."
            )

    def read(self, raw: Any, name: str) -> Cells:
        """The cells by column, of a mapping, an object of JSON, or a cell for each of the columns
        in order. Raises DataError for a column that is lacking or unknown, and for a cell that is
        neither number nor text."""
        cells = _cells(raw, self.columns, name)
        refuse_columns(cells, self.columns or tuple(cells), name)
        return {c: _cell(cells[c], c, name) for c in self.columns or cells}

    def encode(self, value: Any, name: str) -> Any:
        """Nothing: a row is no target."""
        raise DataError(f"{name} is a row, which no head learns; let it be an input.")

    def each(self, given: Any) -> Iterator[tuple[str, Cells]]:
        """One row or several: mappings, sequences, a data frame, an array (N,K), or the name of a
        file that holds a table."""
        if isinstance(given, Path) or (
            isinstance(given, str) and Path(given).suffix.lower() in self.list_endings
        ):
            for called, cells in self.each_in(Path(given)):
                yield called, self.read(cells, called)
            return
        if _is_one(given):
            yield "The row", self.read(given, "The row")
            return
        several: Any = given
        if hasattr(several, "columns") and hasattr(several, "to_dict"):  # a data frame
            several = several.to_dict("records")
        if not isinstance(several, Iterable):
            raise DataError(f"Something of type {type(given).__name__} is no row. {FORMS}")
        for number, one in enumerate(several):
            yield f"The row [{number}]", self.read(one, f"The row [{number}]")

    @property
    def list_endings(self) -> frozenset[str]:
        """How the names of files end that hold rows."""
        return frozenset((*TEXT, *PARQUET)) - {".txt"}

    def each_in(self, file: Path) -> Iterator[tuple[str, Any]]:
        """The rows of a table by line, without the columns that are none of these. Raises DataError
        where one is lacking."""
        table = open_table(str(file))
        wanted = list(self.columns or filter(None, table.columns))
        there = dict.fromkeys(column for column in table.columns if column in wanted)
        refuse_columns(there, wanted, f"The table {str(file)!r}")
        yield from table.rows(wanted)

    def show(self, value: Any) -> str:
        """Its cells in a line."""
        cells = [f"{column} {_said(cell)}" for column, cell in value.items()]
        more = [f"{len(cells) - SHOWN} more"] if len(cells) > SHOWN else []
        return ", ".join([*cells[:SHOWN], *more])

    def fingerprint(self, value: Any) -> Print:
        """A digest of its cells, in which a number is the same however it is written. Two things
        may well have the same cells."""
        cells = {c: cell if (n := as_number(cell)) is None else n for c, cell in value.items()}
        text = json.dumps(cells, sort_keys=True, ensure_ascii=False)
        empty = all(cell is None for cell in value.values())
        return Print(hashlib.sha256(text.encode()).digest(), flat=empty, sure=False)

    def nearly_same(self, first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
        """None: rows of which a cell differs are others."""
        return []

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[Cells]:
        """Rows of numbers and words, some of them missing."""
        columns = self.columns or ("size", "weight", "colour")
        words = self.categorical or columns[-1:]

        def cell(column: str) -> Cell:
            if rng.random() < 0.1:
                return None
            return str(rng.choice(["red", "green"])) if column in words else float(rng.normal())

        return [{column: cell(column) for column in columns} for _ in range(count)]


FORMS = (
    "A row is a mapping from columns to cells, or a cell for each column in order; several are a "
    "list of these, a data frame, or the name of a file such as rows.csv."
)


def refuse_columns(cells: Mapping[str, Any], columns: Sequence[str], name: str) -> None:
    """Raise DataError where a row lacks one of the columns, or has another."""
    if lacks := [column for column in columns if column not in cells]:
        raise DataError(
            f"{name} has no column {lacks[0]!r}.{did_you_mean(lacks[0], cells)} It has to have "
            f"{listed(map(repr, columns))}; where nothing is known, None."
        )
    if unknown := [column for column in cells if column not in columns]:
        raise DataError(
            f"{name} has a column {unknown[0]!r}, which is unknown."
            f"{did_you_mean(unknown[0], columns)} The columns are {listed(map(repr, columns))}."
        )


def _is_one(given: Any) -> bool:
    if isinstance(given, Mapping | str) or (hasattr(given, "to_dict") and given.ndim == 1):
        return True
    if isinstance(given, np.ndarray):
        return given.ndim == 1 and _is_cell(given[0] if len(given) else None)
    first = given[0] if isinstance(given, list | tuple) and given else ()
    return _is_cell(first) and not (isinstance(first, str) and first.lstrip().startswith("{"))


def _is_cell(thing: Any) -> bool:
    return thing is None or isinstance(thing, str | int | float | Decimal | np.generic)


def _cells(raw: Any, columns: Sequence[str], name: str) -> Mapping[str, Any]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise DataError(f"{name} is the text {quoted(raw)}, and no row. {FORMS}") from error
    if hasattr(raw, "to_dict"):  # a row of a data frame
        raw = raw.to_dict()
    if isinstance(raw, Mapping):
        return raw
    if not isinstance(raw, list | tuple | np.ndarray):
        raise DataError(f"{name} is something of type {type(raw).__name__}, and no row. {FORMS}")
    if len(raw) != len(columns):
        what = f"there are {len(columns)} columns, {listed(map(repr, columns))}"
        raise DataError(
            f"{name} has {len(raw)} cells, and {what if columns else 'nobody says their columns'}."
        )
    return dict(zip(columns, raw, strict=True))


def _cell(cell: Any, column: str, name: str) -> Cell:
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(cell, Decimal | bool):
        cell = float(cell)
    if type(cell).__name__ in ("NAType", "NaTType") or is_missing(cell):
        return None
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, int) or (isinstance(cell, float) and np.isfinite(cell)):
        return cell
    raise DataError(
        f"{name} has {quoted(cell)} ({type(cell).__name__}) in the column {column!r}; a cell is a "
        f"finite number, a text or nothing."
    )


def _said(cell: Cell) -> str:
    if cell is None:
        return "missing"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
