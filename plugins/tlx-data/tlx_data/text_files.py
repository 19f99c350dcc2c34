"""Texts with a label each, a line for an example and a tab between its cells, without a heading.

This is how most corpora of sentences are handed around: a file for each split, in a folder or in a
zip, which is read as it lies. A table with a heading, or with quotes, is read by `table`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from tlx_text import Text

from tlx.data.fields import label_field
from tlx.errors import DataError, Refused, did_you_mean, listed
from tlx.files.plain_text import decoded
from tlx.files.zip_members import members, unpacked
from tlx.types import DataInfo, LabelKind, Location
from tlx_data.label_rules import Labels, class_list
from tlx_data.labels import read_labels
from tlx_data.split_names import meaning

ENDINGS = (".tsv", ".tab", ".txt")
"""How the names of such files end."""
SPLITS = ("train", "val", "test")


@final
@dataclass(frozen=True, eq=False)
class Texts:
    """Texts by field, N of each, and their labels (N,...). A Split, Labelled, and Named."""

    texts: Mapping[str, tuple[str, ...]]
    labels: np.ndarray
    lines: tuple[int, ...]
    file: str

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        texts = {name: column[index] for name, column in self.texts.items()}
        return {**texts, "label": self.labels[index]}

    def called(self, index: int) -> str:
        """The file and the line."""
        return f"{self.file}:{self.lines[index]}"


class _Read(NamedTuple):
    splits: dict[str, Texts]
    labels: Labels
    fingerprint: str


class _Lines(NamedTuple):
    """The lines of a file that hold something, each with its number and its cells."""

    file: str
    numbers: tuple[int, ...]
    cells: tuple[list[str], ...]


@final
@dataclass(frozen=True)
class TextFiles:
    """The texts at `path`: a file, or a folder or a zip with a file for each split.

    `columns` names the cells of a line in order, '' one that is left out; `label` is called so,
    and every other one is a field of texts. The files of a folder or zip are `train`, `val` and
    `test`, and found by their names where these are not said; a lone file is 'train'. `label_kind`
    is what the head takes labels for; `class_names` are the classes in order. Read on first use;
    DataError, naming file and line, for what is not so."""

    path: Location
    columns: tuple[str, ...] = ("label", "text")
    train: str | None = None
    val: str | None = None
    test: str | None = None
    class_names: tuple[str, ...] | None = None
    label_kind: LabelKind | None = None

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small set below `folder`, for the conformance kit."""
        folder.mkdir(parents=True, exist_ok=True)
        for split, size in (("train", 8), ("test", 4)):
            lines = (f"{'good' if n % 2 else 'bad'}\ta film of {split} {n}\n" for n in range(size))
            (folder / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
        return {"path": str(folder)}

    @cached_property
    def info(self) -> DataInfo:
        """Fields, sizes and fingerprint."""
        splits, labels, fingerprint = self._read
        several = any(split.labels.ndim == 2 for split in splits.values())
        texts = {name: Text() for name in next(iter(splits.values())).texts}
        label = label_field(labels.classes, labels.numbers, several and bool(labels.classes))
        sizes = {name: len(split) for name, split in splits.items()}
        return DataInfo(Path(self.path).stem, {**texts, "label": label}, sizes, fingerprint)

    def split(self, name: str) -> Texts:
        """The split `name`."""
        return self._read.splits[name]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided of labels, if anything was."""
        return self._read.labels.notes

    @cached_property
    def _read(self) -> _Read:
        names = self._names
        lines = {split: self._lines(*found) for split, found in self._files.items()}
        at = names.index("label")
        labels = read_labels(
            {split: [cells[at] for cells in found.cells] for split, found in lines.items()},
            lambda split, i: f"Line {lines[split].numbers[i]} of {lines[split].file!r}",
            kind=self.label_kind,
            names=self.class_names and class_list(self.class_names, "class_names"),
        )
        digest = hashlib.sha256(repr((labels.classes, names)).encode())
        splits = {}
        for split, found in lines.items():
            columns = {
                name: tuple(cells[number] for cells in found.cells)
                for number, name in enumerate(names)
                if name not in ("", "label")
            }
            digest.update(repr((split, columns)).encode() + labels.values[split].tobytes())
            splits[split] = Texts(columns, labels.values[split], found.numbers, found.file)
        return _Read(splits, labels, digest.hexdigest())

    @property
    def _names(self) -> Sequence[str]:
        named = [name for name in self.columns if name]
        if "label" not in named or len(named) < 2 or len(set(named)) < len(named):
            raise DataError(
                f"columns = {list(self.columns)} has to hold 'label' and the names of one or more "
                f"texts, each once; '' stands for a cell that is left out."
            )
        return self.columns

    @cached_property
    def _files(self) -> dict[str, tuple[str, bytes]]:
        """Split -> (name, content)."""
        path = Path(self.path)
        if not path.exists():
            near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"There is no {self.path!r}.{did_you_mean(path.name, near)}")
        if path.is_dir():
            there = sorted(p.name for p in path.iterdir() if p.suffix.lower() in ENDINGS)
            chosen = self._chosen(there)
            return {split: (name, (path / name).read_bytes()) for split, name in chosen.items()}
        if path.suffix.lower() != ".zip":
            return {"train": (path.name, path.read_bytes())}
        try:
            with zipfile.ZipFile(path) as archive:
                inside = members(archive)
                there = [name for name in inside if Path(name).suffix.lower() in ENDINGS]
                chosen = self._chosen(there)
                return {s: (n, unpacked(archive, inside[n])) for s, n in chosen.items()}
        except (Refused, zipfile.BadZipFile) as error:
            raise DataError(f"The zip file {self.path!r}: {error}") from error

    def _chosen(self, there: Sequence[str]) -> dict[str, str]:
        """Split -> the name of its file among those that are there."""
        said = {split: name for split in SPLITS if (name := getattr(self, split)) is not None}
        for split, name in said.items():
            if name not in there:
                raise DataError(
                    f"{split} = {name!r}: {self.path!r} holds no such file of texts."
                    f"{did_you_mean(name, there)} It holds {listed(there)}."
                )
        found: dict[str, str] = {}
        for name in there if not said else ():
            split = meaning(Path(name).stem)
            if split is not None and (other := found.setdefault(split, name)) != name:
                raise DataError(
                    f"{self.path!r} holds {other!r} and {name!r}, which may both be {split!r}. Say "
                    f"which: {split} = {name!r}."
                )
        chosen = said or found
        if "train" not in chosen:
            raise DataError(
                f"{self.path!r} holds no file of texts that is called 'train', with one of "
                f"{listed(ENDINGS)}. Say which to learn from: train = 'NAME'. It holds "
                f"{listed(there)}."
            )
        return {split: chosen[split] for split in SPLITS if split in chosen}

    def _lines(self, file: str, content: bytes) -> _Lines:
        try:
            text = decoded(content)
        except Refused as error:
            raise DataError(f"The file {file!r} {error}.") from error
        kept = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
        cells = tuple(line.split("\t") for _, line in kept)
        for (number, _), row in zip(kept, cells, strict=True):
            if len(row) != len(self.columns):
                raise DataError(
                    f"Line {number} of {file!r} has {len(row)} cells between tabs, and columns "
                    f"names {len(self.columns)}: {listed(map(repr, self.columns))}. Name every "
                    f"cell, '' one that is to be left out."
                )
        if not cells:
            raise DataError(f"The file {file!r} holds no text.")
        return _Lines(file, tuple(number for number, _ in kept), cells)
