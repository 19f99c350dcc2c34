"""The rows of a table as they lie in a file: CSV in the ways that people and spreadsheets write it,
or parquet.

What divides the columns and how characters are stored is found from the file, because its ending
does not say it: semicolons where the comma is the decimal mark, UTF-16 or Windows-1252 where a
spreadsheet wrote it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tlx.errors import DataError, listed

TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
"""Endings of text, and what divides the columns where the file leaves it open."""
PARQUET = (".parquet", ".pq")
DELIMITERS = (",", ";", "\t", "|")
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
OTHER_FILES = {b"PK\x03\x04": "an Excel or zip file", b"\x1f\x8b": "compressed", b"PAR1": "parquet"}
BATCH = 1000
"""Rows of parquet that are read at a time; each may hold a picture."""
LOOKED_AT = 50
"""Lines that say what divides the columns."""


class Row(NamedTuple):
    """Where a row stands (a line of a CSV, a row of parquet, both counted from 1), and its cells
    by column."""

    place: str
    cells: Mapping[str, Any]


class TableFile(NamedTuple):
    """The columns of a table; its rows, of some of them; what was found out about the file; and the
    classes of the columns of class numbers that it names itself."""

    columns: list[str]
    rows: Callable[[list[str]], Iterator[Row]]
    notes: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = {}


def open_table(path: str) -> TableFile:
    """The table at `path`. Raises DataError where it is not there or cannot be read."""
    ending = Path(path).suffix.lower()
    if ending not in (*TEXT, *PARQUET):
        raise DataError(
            f"The table {path!r} ends in {ending!r}; {listed([*TEXT, *PARQUET])} are read."
        )
    if not Path(path).is_file():
        raise DataError(f"The table {path!r} does not exist.")
    found = (_parquet if ending in PARQUET else _text)(path)
    named = [name for name in found.columns if name]
    if twice := [name for i, name in enumerate(named) if name in named[:i]]:
        raise DataError(f"The table {path!r} has two columns {twice[0]!r}; rename one.")
    return found


def _text(path: str) -> TableFile:
    text, note = _decoded(path)
    said = re.match(r"sep=(.)\r?\n", text)  # a line that Excel writes for itself
    lines = text[said.end() :] if said else text
    before = 1 if said else 0
    delimiter = said[1] if said else _delimiter(lines, TEXT[Path(path).suffix.lower()])

    def every() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            io.StringIO(lines, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
        )
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num + before, cells
        except csv.Error as error:
            raise DataError(
                f"The table {path!r} cannot be read as text with columns: {error}, in line "
                f"{reader.line_num + before}."
            ) from error

    header = [name.strip() for name in next(every(), (0, []))[1]]

    def rows(wanted: list[str]) -> Iterator[Row]:
        numbers = {name: header.index(name) for name in wanted}
        lines = every()
        next(lines)
        for line, cells in lines:
            place = f"Line {line} of {path!r}"
            if len(cells) != len(header):
                raise DataError(
                    f"{place} has another number of cells, {len(cells)}, than the {len(header)} "
                    f"columns. A "
                    f"{delimiter!r} within a cell needs quotes around the cell."
                )
            yield Row(place, {name: cells[number] for name, number in numbers.items()})

    return TableFile(header, rows, (note,) if note else ())


def _decoded(path: str) -> tuple[str, str]:
    """The text of a file, and a note where its encoding had to be guessed."""
    content = Path(path).read_bytes()
    for magic, what in OTHER_FILES.items():
        if content.startswith(magic):
            raise DataError(f"The table {path!r} is {what}, and no text; save it as CSV.")
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if encoding is None and 4 * content[:200].count(0) > len(content[:200]):
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        text, note = content.decode(encoding or "utf-8"), ""
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise DataError(f"The table {path!r} cannot be read as {encoding}: {error}.") from error
        text = content.decode("cp1252", errors="replace")
        note = (
            f"The table {path!r} is no UTF-8 and is read as Windows-1252; save it as UTF-8 where "
            f"letters with accents come out wrong."
        )
    if "\0" in text:
        raise DataError(f"The table {path!r} holds bytes that are no text; save it as CSV.")
    return text, note


def _delimiter(text: str, usual: str) -> str:
    """What divides the columns: what cuts the first lines into equally many, and most, cells."""

    def columns(delimiter: str) -> int:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            lengths = [len(cells) for cells, _ in zip(reader, range(LOOKED_AT), strict=False)]
        except csv.Error:
            return 0
        lengths = [length for length in lengths if length]
        if not lengths:
            return 0
        same = sum(length == lengths[0] for length in lengths)
        return lengths[0] if 2 * same > len(lengths) else 0

    order = [usual, *(other for other in DELIMITERS if other != usual)]
    best = max(order, key=columns)  # the first of equals
    return best if columns(best) > 1 else usual


def _parquet(path: str) -> TableFile:
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
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(error) from error

    def rows(wanted: list[str]) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(path) as file:
                batches = file.iter_batches(BATCH, columns=wanted)
                every = (cells for batch in batches for cells in batch.to_pylist())
                for number, cells in enumerate(every, 1):
                    yield Row(f"Row {number} of {path!r}", cells)
        except (pa.ArrowException, OSError, ValueError) as error:  # text that is no UTF-8, too
            raise damaged(error) from error

    return TableFile(schema.names, rows, classes=_hub_classes(schema.metadata or {}))


def _hub_classes(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of classes that the Hugging Face hub writes beside its columns of numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        named = {column: of["names"] for column, of in features.items() if "names" in of}
        return {column: tuple(map(str, names)) for column, names in named.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
