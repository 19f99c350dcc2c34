"""The rows of a table as examples: a value of each field, and a label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from tlx_image.decode import read

from tlx_data.folder import HEAD
from tlx_data.label_cells import as_number, is_missing
from tlx_data.picture_cells import Embedded


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """Examples: field -> its cell of each, or where its file lies; `label` is what their `labels`
    (N,...) are called, "" where there are none; `places` say where they stand. Pictures are
    decoded here. A Split, Labelled, and Named."""

    values: Mapping[str, Sequence[Any]]
    label: str
    labels: np.ndarray
    places: Sequence[str]
    pictures: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        found = {name: self._value(name, cells[index]) for name, cells in self.values.items()}
        return found | ({self.label: self.labels[index]} if self.label else {})

    def called(self, index: int) -> str:
        """The file, or the row."""
        for cells in self.values.values():
            if isinstance(cells[index], Path | Embedded):
                found = cells[index]
                return str(found) if isinstance(found, Path) else found.name
        return self.places[index]

    def _value(self, name: str, cell: Any) -> Any:
        if name in self.pictures:
            return read(cell) if isinstance(cell, Path) else read(cell.content, cell.name)
        return cell.content if isinstance(cell, Embedded) else cell


def fingerprint(root: Path | None, splits: Mapping[str, Rows], classes: Sequence[str]) -> str:
    """sha256 over the classes in order, and of each row its file (its place below `root`, size and
    first bytes) or its cells, and its label."""
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for name, split in splits.items():
        for field, cells in split.values.items():
            for cell in cells:
                digest.update(_print(cell, root, name, field))
        digest.update(f"{name}/{split.labels.dtype}/".encode() + split.labels.tobytes())
    return digest.hexdigest()


def _print(cell: Any, root: Path | None, split: str, field: str) -> bytes:
    if isinstance(cell, Path):
        with cell.open("rb") as file:
            head, size = file.read(HEAD), cell.stat().st_size
        place = cell.relative_to(root or "").as_posix()
        return f"{split}/{place}/{size}/".encode() + head
    if isinstance(cell, Embedded):
        return f"{split}//{len(cell.content)}/".encode() + cell.content[:HEAD]
    plain = {c: _plain(v) for c, v in cell.items()} if isinstance(cell, Mapping) else _plain(cell)
    return json.dumps([split, field, plain], default=str).encode()


def _plain(cell: Any) -> Any:
    """A cell, however its file writes numbers and what is missing."""
    if is_missing(cell):
        return None
    return cell if (number := as_number(cell)) is None else number
