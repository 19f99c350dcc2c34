"""The splits of a run as it began, on data of which something has gone or was mended since.

A cut goes by the fingerprint of the data, so a single file less would deal all pictures out anew.
What a run wrote down of its splits is taken instead, under the numbers that the examples had, so
that training goes on bit by bit; a test picture that has gone, or cannot be read, is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from tlx.data.splits import Splits, Subset
from tlx.errors import listed
from tlx.protocols import DataSource, Labelled, Named, Split
from tlx.run_folder import provenance
from tlx.run_folder.folder import SPLIT
from tlx.run_folder.membership import KEPT, Member, members, read
from tlx.types import DataInfo

NAMES = 5
"""How many files are listed."""


@final
@dataclass(frozen=True, eq=False)
class Renumbered:
    """A split under the numbers that its examples once had: `now` (N,) is the number of each now,
    -1 of one that has gone. A Split, Labelled and Named."""

    split: Split
    now: np.ndarray

    def __len__(self) -> int:
        return len(self.now)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.split[int(self.now[index])]

    @property
    def labels(self) -> np.ndarray:
        """Those of the examples that are there; of one that has gone, any."""
        assert isinstance(self.split, Labelled)
        return np.asarray(self.split.labels)[np.maximum(self.now, 0)]

    def called(self, index: int) -> str:
        """The file."""
        assert isinstance(self.split, Named)
        return self.split.called(int(self.now[index]))


class Begun(NamedTuple):
    """What a run wrote down of its data: every row of its table of splits, and how many examples
    each split of the source had."""

    members: tuple[Member, ...]
    sizes: Mapping[str, int]


def begun(out: Path) -> Begun:
    """That of the run in the folder `out`; empty where it has not come that far. Raises
    CheckpointError for a damaged file."""
    sizes = provenance.read(out).get("data", {}).get("splits", {})
    return Begun(tuple(read(out / SPLIT)) if (out / SPLIT).exists() else (), sizes)


def as_before(cut: Splits, then: Begun, source: DataSource) -> Splits:
    """The splits of `then`, where a `cut` of the data as they are now is another one and what
    training and selection saw is all there; else the cut, of which `provenance.verify` says what
    is wrong with it."""
    classes = source.info.classes
    rows = [row for row in then.members if row.split in cut.parts]
    now = members({name: (part, classes) for name, part in cut.parts.items()})
    if not rows or rows == list(now):
        return cut
    there = {name: _files(source.split(name)) for name in source.info.splits}
    broken = {row.file for row in members({n: (p, classes) for n, p in cut.left_out.items()})}
    missing = [row for row in rows if row.file not in there.get(row.source, {})]
    gone = [row for row in rows if row in missing or row.file in broken]
    if any(row.split in KEPT for row in gone) or _added(missing, then.sizes, source.info):
        return cut
    lost = set(gone)
    found = {
        name: _subset([row for row in rows if row.split == name], lost, source, there)
        for name in cut.parts
    }
    if not len(found["test"]):
        return cut
    labels = members({name: (part, classes) for name, part in found.items()})
    if [row for row in rows if row not in lost] != list(labels):
        return cut
    notes = ["The splits are those that the run was started with."]
    if gone:
        files = [row.file for row in gone]
        more = [f"{len(files) - NAMES:,} more"] if len(files) > NAMES else []
        notes.append(
            f"{len(gone):,} of its {sum(row.split == 'test' for row in rows):,} test pictures have "
            f"gone or cannot be read, and are left out: {listed([*files[:NAMES], *more])}."
        )
    return Splits(found["train"], found["val"], found["test"], tuple(notes), cut.left_out)


def _files(split: Split) -> dict[str, int]:
    """File -> number; nothing where the split does not know its files, or not its labels."""
    if not (isinstance(split, Named) and isinstance(split, Labelled)):
        return {}
    return {split.called(number): number for number in range(len(split))}


def _added(gone: Sequence[Member], sizes: Mapping[str, int], info: DataInfo) -> bool:
    """Whether the source has examples that it did not have."""
    went = Counter(row.source for row in gone)
    return any(
        now > sizes.get(name, 0) - went[name] and now != sizes.get(name)
        for name, now in info.splits.items()
    )


def _subset(
    rows: Sequence[Member],
    lost: set[Member],
    source: DataSource,
    there: Mapping[str, Mapping[str, int]],
) -> Subset:
    name = rows[0].source
    split, files = source.split(name), there[name]
    numbers = [int(row.number) for row in rows]
    now = np.full(max(numbers) + 1, -1)
    now[numbers] = [files.get(row.file, -1) for row in rows]
    kept = [number for number, row in zip(numbers, rows, strict=True) if row not in lost]
    kept = np.asarray(kept, np.int64)
    return Subset(Renumbered(split, now), kept, name, source.info.fields, source.info.label)
