"""Which example is in which split, written beside a run and held against the data on a resume.

A run that goes on with other examples than it began with is no run that anybody asked for, and a
cut that nobody wrote down cannot be looked at later.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from tlx.data.splits import Subset
from tlx.errors import CheckpointError
from tlx.files import manifest
from tlx.protocols import Named

Classed: TypeAlias = tuple[Subset, tuple[str, ...]]
"""A split and what its labels are called; nothing where they are no classes, or not known."""


class Occasion(NamedTuple):
    """Why data are held against what a run wrote down: how a refusal begins, and what it advises,
    in which {out} is the run's folder."""

    refusal: str
    advises: str

    def advice(self, out: Path) -> str:
        """The sentence at the end of a refusal."""
        return self.advises.format(out=out)


RESUMING = Occasion("Cannot resume", "Bring it back, or use --overwrite to start anew.")
MEASURING = Occasion(
    "Cannot measure the run again",
    "Bring it back. To measure the run's model on other data, give `tlx eval` a run file of theirs "
    'with weights = {{ name = "run:{out}", head = "keep" }} and epochs = 0.',
)


KEPT = ("train", "val")
"""Splits that a run which goes on needs whole: what it learns from, and what it is chosen by."""
LEFT_OUT = "unreadable-"
"""How the name of a split begins that lists what a run has left out."""
COLUMNS = ("split", "source", "index", "label", "file")


class Member(NamedTuple):
    """A row of the table: the split of the run, the source's split that the example is in, its
    number there, its label in words, and its file where the source knows one."""

    split: str
    source: str
    number: str
    label: str
    file: str


def members(splits: Mapping[str, Classed]) -> Iterator[Member]:
    """Every example of every split, in the order of the split."""
    for name, (subset, classes) in splits.items():
        split, indices = subset.split, subset.indices
        while isinstance(split, Subset):
            split, indices = split.split, split.indices[indices]
        for index, label in zip(indices.tolist(), subset.labels, strict=True):
            file = split.called(index) if isinstance(split, Named) else ""
            yield Member(name, subset.name, str(index), _words(label, classes), file)


def keep(path: Path, splits: Mapping[str, Classed], *, fewer: bool = False) -> None:
    """Write the table to `path`, whole or not at all; where it is there, hold it against the data.
    Raises CheckpointError with the first split that is another one; `fewer` as for `verify`."""
    if path.exists():
        verify(path, splits, RESUMING, fewer=fewer)
        if list(members(splits)) == read(path):
            return
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(members(splits))
    manifest.write(path, text.getvalue())


def verify(
    path: Path, splits: Mapping[str, Classed], occasion: Occasion, *, fewer: bool = False
) -> None:
    """Hold the table at `path` against the data. Raises CheckpointError with the first split that
    is another one; with `fewer`, a test split may have lost some."""
    then, now = read(path), list(members(splits))
    if fewer:
        left = {member for member in now if member.split == "test"}
        then = [member for member in then if member.split != "test" or member in left]
    _compare(path, then, now, occasion)


def relabelled(path: Path, splits: Mapping[str, Classed]) -> str:
    """The first example of the table at `path` that has another label or file now, in words; empty
    where there is none, or no table."""
    then = {m[1:3]: m for m in read(path)} if path.exists() else {}
    for now in members(splits):
        was = then.get(now[1:3], now)
        for before, after in ((was.file, now.file), (was.label, now.label)):
            if before != after:
                return f"{now.source}[{now.number}] was {before!r} and is {after!r}"
    return ""


def gone(path: Path) -> str:
    """The first file of the table at `path` that is not there, where files are what it names and
    others of them are there; else ''."""
    files = [member.file for member in read(path)] if path.exists() else []
    lost = [file for file in files if file and not Path(file).exists()]
    return lost[0] if lost and len(lost) < len(files) else ""


def read(path: Path) -> list[Member]:
    """The rows of the table at `path`. Raises CheckpointError where it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
            if tuple(header) == COLUMNS:
                return [Member(*row) for row in rows]
    except (ValueError, TypeError, csv.Error):
        pass  # said below
    raise CheckpointError(
        f"{path} is damaged, so that nobody knows which examples the run was started with. Use "
        f"--overwrite to start anew."
    )


def _compare(path: Path, then: list[Member], now: list[Member], occasion: Occasion) -> None:
    for split in dict.fromkeys(member.split for member in (*then, *now)):
        if split.startswith(LEFT_OUT):  # what nobody uses may change
            continue
        before, after = ([m for m in all if m.split == split] for all in (then, now))
        if before == after:
            continue
        was, came = set(before), set(after)
        changes = [("is gone from it", m) for m in before if m not in came]
        changes += [("is new in it", m) for m in after if m not in was]
        how, which = changes[0] if changes else ("is where another one was", after[0])
        called = which.file or f"{which.source}[{which.number}]"
        raise CheckpointError(
            f"{occasion.refusal}: the {split} split is not the one of {path}, which the run was "
            f"started with ({len(before)} examples then, {len(after)} now; {called!r} with the "
            f"label {which.label!r} {how}). {occasion.advice(path.parent)}"
        )


def _words(label: np.ndarray, classes: tuple[str, ...]) -> str:
    """The class, the classes of several that are there, or the numbers."""
    if classes and label.ndim == 0:
        return classes[int(label)]
    if classes:
        return ";".join(name for name, there in zip(classes, label, strict=True) if there)
    return ";".join(f"{number:.9g}" for number in np.ravel(label))
