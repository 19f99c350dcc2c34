"""A table that lists pictures: a CSV or parquet file with a row for each.

One column is the picture's path, one its label, and one may say which split it belongs to. The
table may come from somebody else, so a path is followed only within the folder of the pictures.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

from tlx.errors import DataError, did_you_mean, listed
from tlx.types import DataInfo
from tlx_data.folder import Files, fingerprint
from tlx_data.labels import class_list, numbered
from tlx_data.split_names import MEANINGS, meaning

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")


class Row(NamedTuple):
    """Where a row stands (a line of a CSV, a row of parquet, both counted from 1), and its cells
    by column."""

    place: str
    cells: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Table:
    """The table at `path`: `.csv`, `.tsv` (UTF-8, the first line names the columns) or `.parquet`.

    `image`, `label` and `split` name its columns. A picture's path is relative to the folder
    `root` (None: the table's own) and stays within it. Labels are names, class numbers from 0, or
    decimal numbers, the targets of a regression; `class_names` gives the classes an order of its
    own. Splits are called train, val (or valid, validation) and test; without a column 'split' all
    rows are 'train'. The table is read on first use; DataError, naming file and row, where it does
    not hold what it should."""

    path: str
    image: str = "image"
    label: str = "label"
    split_column: str | None = None
    root: str | None = None
    class_names: tuple[str, ...] | None = None

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small table below `folder`, for the conformance kit."""
        from tlx_data.samples import table

        return table(folder)

    @cached_property
    def info(self) -> DataInfo:
        """Classes, sizes and fingerprint; pictures may differ in shape."""
        splits, classes = self._read
        digest = hashlib.sha256(fingerprint(self._root, splits, classes).encode())
        for name, split in splits.items():
            digest.update(f"{name}/{split.labels.dtype}/".encode() + split.labels.tobytes())
        return DataInfo(
            name=Path(self.path).stem,
            shape=None,
            classes=classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=digest.hexdigest(),
        )

    def split(self, name: str) -> Files:
        """The split `name`."""
        return self._read[0][name]

    @property
    def _root(self) -> Path:
        return Path(self.path).parent if self.root is None else Path(self.root)

    @cached_property
    def _read(self) -> tuple[dict[str, Files], tuple[str, ...]]:
        if not self._root.is_dir():
            raise DataError(f"The folder of pictures {str(self._root)!r} does not exist.")
        rows, column = self._rows()
        at = _pictures(self._root)
        paths: dict[str, list[Path]] = {}
        labels: dict[str, list[Any]] = {}
        places: dict[str, list[str]] = {}
        seen: dict[Path, str] = {}
        for place, cells in rows:
            name = _split_name(cells[column], place) if column else "train"
            path = at(cells[self.image], place)
            if (first := seen.setdefault(path, place)) != place:
                raise DataError(
                    f"{place} lists the picture {cells[self.image]!r}, which is listed already "
                    f"({first}). A picture stands in one row, so that training and test cannot "
                    f"share it."
                )
            paths.setdefault(name, []).append(path)
            labels.setdefault(name, []).append(cells[self.label])
            places.setdefault(name, []).append(place)
        if not paths:
            raise DataError(f"The table {self.path!r} has no rows.")
        names = self.class_names
        if names is not None:
            names = class_list(names, "class_names")
        classes, values = numbered(labels, lambda name, i: places[name][i], names)
        order = [name for name in ("train", "val", "test") if name in paths]
        return {name: Files(tuple(paths[name]), values[name]) for name in order}, classes

    def _rows(self) -> tuple[Iterator[Row], str | None]:
        """The rows, and the column that says the split, if there is one."""
        path = Path(self.path)
        ending = path.suffix.lower()
        if ending not in (*DELIMITERS, *PARQUET):
            raise DataError(
                f"The table {self.path!r} ends in {ending!r}; {listed([*DELIMITERS, *PARQUET])} "
                f"are read."
            )
        if not path.is_file():
            raise DataError(f"The table {self.path!r} does not exist.")
        columns, rows = (_parquet if ending in PARQUET else _csv)(self.path)
        if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
            raise DataError(f"The table {self.path!r} has two columns {twice[0]!r}; rename one.")
        column = self.split_column or ("split" if "split" in columns else None)
        for wanted in filter(None, (self.image, self.label, column)):
            if wanted not in columns:
                raise DataError(
                    f"The table {self.path!r} has no column {wanted!r}."
                    f"{did_you_mean(wanted, columns)} Its columns are {listed(columns)}; image, "
                    f"label and split_column say which of them are read."
                )
        return rows([c for c in (self.image, self.label, column) if c]), column


Rows = Callable[[list[str]], Iterator[Row]]


def _csv(path: str) -> tuple[list[str], Rows]:
    delimiter = DELIMITERS[Path(path).suffix.lower()]

    def lines() -> Iterator[tuple[int, list[str]]]:
        try:
            # A byte order mark, as spreadsheets write it, is no part of the first column's name.
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"The table {path!r} cannot be read as UTF-8 text with columns: {error}."
            ) from error

    header = next(lines(), (0, []))[1]

    def rows(wanted: list[str]) -> Iterator[Row]:
        numbers = {name: header.index(name) for name in wanted}
        every = lines()
        next(every)
        for line, cells in every:
            place = f"Line {line} of {path!r}"
            if len(cells) != len(header):
                raise DataError(
                    f"{place} has {len(cells)} cells, but there are {len(header)} columns. A "
                    f"{delimiter!r} within a cell needs quotes around the cell."
                )
            yield Row(place, {name: cells[number] for name, number in numbers.items()})

    return header, rows


def _parquet(path: str) -> tuple[list[str], Rows]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"The table {path!r} is parquet, which needs pyarrow: pip install pyarrow. A .csv "
            f"needs nothing."
        ) from error

    def damaged(error: Exception) -> DataError:
        return DataError(f"The table {path!r} cannot be read as parquet: {error}")

    try:
        columns = parquet.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(error) from error

    def rows(wanted: list[str]) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(path) as file:
                batches = file.iter_batches(columns=wanted)
                every = (cells for batch in batches for cells in batch.to_pylist())
                for number, cells in enumerate(every, 1):
                    yield Row(f"Row {number} of {path!r}", cells)
        except (pa.ArrowException, OSError, ValueError) as error:  # text that is no UTF-8, too
            raise damaged(error) from error

    return columns, rows


def _split_name(cell: Any, place: str) -> str:
    name = meaning(str(cell))
    if name is None:
        raise DataError(
            f"{place} names the split {cell!r}.{did_you_mean(str(cell), MEANINGS)} A split is "
            f"called {listed(MEANINGS)}, in any case."
        )
    return name


def _pictures(root: Path) -> Callable[[Any, str], Path]:
    """A function from (path as the table has it, place of the row) to the file."""
    home = root.resolve()

    def at(cell: Any, place: str) -> Path:
        if not isinstance(cell, str) or not cell.strip() or "\0" in cell:
            raise DataError(f"{place} has no path of a picture, but {cell!r}.")
        # Normalised, so that a picture has one name; a link may still lead elsewhere.
        path = root / os.path.normpath(cell)
        try:
            inside = not os.path.isabs(cell) and path.resolve().is_relative_to(home)
            there = path.is_file()
        except (OSError, RuntimeError) as error:  # too long, or links in a circle
            raise DataError(
                f"{place} names a picture by what can be no path: {cell[:80]!r} ({error})."
            ) from error
        if not inside:
            raise DataError(
                f"{place} names the picture {cell!r}, which is no path within the folder "
                f"{str(root)!r}. Nothing outside of it is read; if the pictures lie elsewhere, "
                f"name their folder as root, and paths relative to it."
            )
        if not there:
            raise DataError(
                f"{place} names the picture {cell!r}, which does not exist in {str(root)!r}."
            )
        return path

    return at
