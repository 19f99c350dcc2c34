"""A table of examples: a CSV or parquet file with a row for each.

One column may be a picture or a text, others a row of numbers and categories; one is the label, and
one may say which split a row belongs to. What a label is, the head of the run decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from tlx_table.table_file import TableFile, open_table

from tlx.contracts.field import Field, StoredInFiles
from tlx.data.fields import label_field
from tlx.errors import DataError
from tlx.types import DataInfo, LabelKind, Location
from tlx_data.label_cells import as_name, is_missing, quoted
from tlx_data.label_rules import Labels, class_list
from tlx_data.labels import read_labels
from tlx_data.picture_cells import pictures_within
from tlx_data.split_cells import Chosen, SplitColumns, split_columns
from tlx_data.table_fields import TableFields, find_fields
from tlx_data.table_rows import Rows, fingerprint

FIRST = 20
"""Rows that are looked at to tell what a column holds."""
DIFFERENT = 200
"""Cells of a column that are told apart to see whether they are splits."""


class _Found(NamedTuple):
    splits: dict[str, Rows]
    fields: dict[str, Field]
    targets: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class _Part:
    """A split while it is read; all lists have an item for each row."""

    values: list[dict[str, Any]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True)
class Table:
    """The table at `path`: text whose first line names the columns (`.csv`, `.tsv`), or `.parquet`.

    `image`, `label` and `split_column` name its columns; they are looked for by usual names where
    they are not said. Without a column of pictures all others are one field, `row`. `fields` says
    of each field by name its `kind`, its `column` or `columns`, its `role`, "input" or "target",
    and options of its kind. A picture is a path relative to the folder `root` (None: the table's
    own) or absolute, within it, or its file in a cell of parquet. `label_kind` is what the head
    takes labels for; several numbers or classes come from several `label` columns, or in one cell,
    divided by `label_separator`. `class_names` gives the classes an order of its own. `val_values`
    and `test_values` are the cells of the split's column that stand for these splits, where they
    are not called so; `split_column = false` reads none, and without one all rows are 'train'. The
    table is read on first use; DataError, naming file and row, where it does not hold what it
    should."""

    path: Location
    image: str | None = None
    label: str | tuple[str, ...] | None = None
    split_column: str | bool | None = None
    root: Location | None = None
    class_names: tuple[str, ...] | None = None
    label_kind: LabelKind | None = None
    label_needed: bool = True
    label_separator: str = "|"
    val_values: tuple[str, ...] = ()
    test_values: tuple[str, ...] = ()
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.path, self.label, repr(self.fields)))

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small table below `folder`, for the conformance kit."""
        from tlx_data.samples import table

        return table(folder)

    @cached_property
    def info(self) -> DataInfo:
        """Fields, sizes and fingerprint; pictures may differ in shape."""
        found = self._read
        return DataInfo(
            name=Path(self.path).stem,
            fields=found.fields,
            splits={name: len(split) for name, split in found.splits.items()},
            fingerprint=fingerprint(self._root, found.splits, found.classes),
            targets=found.targets,
        )

    def split(self, name: str) -> Rows:
        """The split `name`."""
        return self._read.splits[name]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or left out, if anything was."""
        return self._read.notes

    @property
    def _root(self) -> Path:
        return Path(self.path).parent if self.root is None else Path(self.root)

    @property
    def _where(self) -> str:
        return f"The table {self.path!r}"

    @cached_property
    def _read(self) -> _Found:
        if self.split_column is True:
            raise DataError("split_column is the name of a column, or false for none.")
        file = open_table(self.path)
        columns = self._columns(file)
        splits = self._split_columns(file, columns)
        columns = columns.completed(
            [name for name in file.columns if name not in splits.columns], self._where
        )
        fields = {name: one.built(one.columns) for name, one in columns.fields.items()}
        parts = self._parts(file, columns, fields, splits)
        left_out = _take_out_unlabelled(parts) if columns.label else []
        labels = self._labels(file, columns, parts)
        pictures = frozenset(name for name, one in fields.items() if one.kind == "image")
        found = {
            name: Rows(
                {key: tuple(row[key] for row in part.values) for key in fields},
                columns.label, labels.values[name], tuple(part.places), pictures,
            )
            for name, part in parts.items()
        }  # fmt: skip
        targets = tuple(name for name, one in columns.fields.items() if one.target)
        if columns.label:
            several = labels.values["train"].ndim == 2 if "train" in parts else False
            fields[columns.label] = label_field(labels.classes, labels.numbers, several)
            targets = (*targets, columns.label)
        notes = (*file.notes, *columns.notes, *splits.notes, *left_out, *labels.notes)
        return _Found(found, fields, targets, labels.classes, notes)

    def _columns(self, file: TableFile) -> TableFields:
        def first(name: str) -> list[Any]:
            cells = [row.cells[name] for row in islice(file.rows([name]), FIRST)]
            return [cell for cell in cells if not is_missing(cell)]

        return find_fields(
            file.columns,
            self._where,
            stated=self.fields,
            image=self.image,
            label=self.label,
            split=self.split_column,
            kind=self.label_kind,
            cells=first,
            needed=self.label_needed,
        )

    def _split_columns(self, file: TableFile, columns: TableFields) -> SplitColumns:
        chosen = Chosen(self.split_column, self.val_values, self.test_values)
        others = [name for name in file.columns if name and name not in columns.taken]
        if isinstance(self.split_column, str):
            others = [self.split_column]
        values: dict[str, set[str]] = {name: set() for name in others}
        for _, cells in file.rows(others) if others and self.split_column is not False else ():
            for name, cell in cells.items():
                if len(values[name]) < DIFFERENT:
                    values[name].add(as_name(cell) or "")
        return split_columns(values, chosen)

    def _parts(
        self, file: TableFile, columns: TableFields, fields: dict[str, Field], splits: SplitColumns
    ) -> dict[str, _Part]:
        """The rows of each split, in the order of the splits."""
        found = {name: _Part() for name in ("train", "val", "test")}
        in_files = [name for name, one in fields.items() if isinstance(one, StoredInFiles)]
        if in_files and not self._root.is_dir():
            raise DataError(f"The folder of pictures {str(self._root)!r} does not exist.")
        once = [name for name in in_files if not columns.fields[name].target]
        value, seen = pictures_within(self._root), dict[Any, str]()
        wanted = list(dict.fromkeys((*columns.taken, *splits.columns)))
        for place, cells in file.rows(wanted):
            part, values = found[splits.read(cells, place)], dict[str, Any]()
            for name, one in columns.fields.items():
                if name in in_files:
                    values[name] = here = value(cells[one.columns[0]], place)
                    if name in once and isinstance(here, Path):
                        _refuse_twice(here, cells[one.columns[0]], place, seen)
                elif one.many:
                    values[name] = {column: cells[column] for column in one.columns}
                else:
                    values[name] = cells[one.columns[0]]
            part.values.append(values)
            part.labels.append(_label(cells, columns.labels))
            part.places.append(place)
        if not any(part.places for part in found.values()):
            raise DataError(f"{self._where} has no rows.")
        return {name: part for name, part in found.items() if part.places}

    def _labels(self, file: TableFile, columns: TableFields, parts: dict[str, _Part]) -> Labels:
        if not columns.label:
            nothing = {n: np.zeros(len(part.places), np.float32) for n, part in parts.items()}
            return Labels((), nothing)
        names = self.class_names
        if names is None and self.label_kind != "number":
            names = file.classes.get(columns.labels[0])
        labels = read_labels(
            {name: part.labels for name, part in parts.items()},
            lambda name, i: parts[name].places[i],
            kind=self.label_kind,
            names=None if names is None else class_list(names, "class_names"),
            separator=self.label_separator,
        )
        if not labels.classes and all(values.ndim == 1 for values in labels.values.values()):
            labels = labels._replace(numbers=columns.labels)
        return labels


def _refuse_twice(here: Path, cell: Any, place: str, seen: dict[Any, str]) -> None:
    """A picture stands in one row."""
    if (first := seen.setdefault(here, place)) != place:
        raise DataError(
            f"{place} lists the picture {quoted(cell)}, which is listed "
            f"already ({first}). A picture stands in one row, so that training and test "
            f"cannot share it; several labels of it stand there together, as 'a|b'."
        )


def _label(cells: Mapping[str, Any], columns: Sequence[str]) -> Any:
    """The cell of a label, or, of several columns, their cells by name; None without one."""
    if not columns:
        return None
    if len(columns) > 1:
        return {name: cells[name] for name in columns}
    return cells[columns[0]]


def _take_out_unlabelled(parts: dict[str, _Part]) -> list[str]:
    """Leave out a split other than 'train' of which no row has a label, and say it."""
    notes = []
    for name in [name for name in parts if name != "train" and "train" in parts]:
        cells = parts[name].labels
        rows = (cell.values() if isinstance(cell, dict) else (cell,) for cell in cells)
        if all(is_missing(value) for row in rows for value in row):
            notes.append(
                f"The {len(cells)} rows of {name!r} have no label and are left out; 'tlx predict' "
                f"reads them."
            )
            del parts[name]
    return notes
