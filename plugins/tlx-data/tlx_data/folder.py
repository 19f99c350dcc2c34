"""A folder of pictures, one sub-folder per class.

Either `train/`, `val/`, `test/` with a folder per class in each, or the class folders at once,
which then are a lone 'train'. Classes are sorted by name. Pictures are decoded when asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.data.decode import read
from tlx.errors import DataError, did_you_mean, listed
from tlx.types import DataInfo

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ENDINGS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
HEAD = 4096
"""Bytes of each file that go into the fingerprint, beside its name and size."""


@final
@dataclass(frozen=True, eq=False)
class Files:
    """Paths of pictures and their labels (N,) int32. A Split, Labelled, and Named."""

    paths: tuple[Path, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"image": read(self.paths[index]), "label": self.labels[index]}

    def called(self, index: int) -> str:
        """The file."""
        return str(self.paths[index])


@final
@dataclass(frozen=True)
class Folder:
    """The folder at `path`, looked through on first use.

    Hidden files are skipped, other files that are no pictures are counted in `notes`. DataError
    where there are no class folders, a class is missing from a split or a picture is unreadable
    (when it is read)."""

    path: str

    @cached_property
    def info(self) -> DataInfo:
        """Classes, sizes and fingerprint; pictures may differ in shape."""
        splits, classes, _ = self._found
        return DataInfo(
            name=Path(self.path).resolve().name,
            shape=None,
            classes=classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=fingerprint(Path(self.path), splits, classes),
        )

    def split(self, name: str) -> Files:
        """The split `name`."""
        return self._found[0][name]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out, if anything was."""
        ignored = self._found[2]
        return (
            (f"{ignored} files that are no pictures of a class were ignored.",) if ignored else ()
        )

    @cached_property
    def _found(self) -> tuple[dict[str, Files], tuple[str, ...], int]:
        root = Path(self.path)
        if not root.is_dir():
            near = [e.name for e in root.parent.iterdir()] if root.parent.is_dir() else []
            raise DataError(
                f"The data folder {self.path!r} does not exist or is no folder."
                f"{did_you_mean(root.name, near)}"
            )
        roots = _split_roots(root)
        per_split = {name: [f.name for f in _folders(place)] for name, place in roots.items()}
        classes = tuple(sorted(per_split["train"]))
        for name, there in per_split.items():
            odd = sorted(set(classes) ^ set(there))
            if odd:
                has, lacks = ("train", name) if odd[0] in classes else (name, "train")
                raise DataError(
                    f"The class folder {odd[0]!r} is in {has!r} but not in {lacks!r} of "
                    f"{self.path!r}; every split needs the same classes. {name!r} has "
                    f"{listed(sorted(there), 'no class folders')}."
                )
        splits, ignored = {}, 0
        for name, place in roots.items():
            splits[name], left_out = _files(place, classes)
            ignored += left_out
        empty = np.flatnonzero(np.bincount(splits["train"].labels, minlength=len(classes)) == 0)
        if not classes or empty.size:
            where = str(roots["train"])
            if classes:
                what = f"The class folder {classes[empty[0]]!r} of {where!r} holds no picture"
            else:
                only = f", only {ignored} file{'s'[: ignored > 1]}" if ignored else ""
                what = f"The folder {where!r} holds no folder of a class{only}"
            raise DataError(
                f"{what}. Put the pictures of each class in a folder named after it: "
                f"{where}/CLASS/PICTURE. Endings that are read: {listed(sorted(ENDINGS))}."
            )
        return splits, classes, ignored


def _visible(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))


def _folders(place: Path) -> list[Path]:
    return [entry for entry in _visible(place) if entry.is_dir()]


def _split_roots(root: Path) -> dict[str, Path]:
    """Split name -> its folder. A class may be called 'train': then it holds no folders."""
    train = root / "train"
    if not (train.is_dir() and _folders(train)):
        return {"train": root}
    roots: dict[str, Path] = {}
    for place in _folders(root):
        name = SPLITS.get(place.name)
        if name is None:
            continue
        if name in roots:
            raise DataError(
                f"Both {roots[name].name!r} and {place.name!r} of {str(root)!r} are a validation "
                f"split; keep one."
            )
        roots[name] = place
    return roots


def _files(place: Path, classes: tuple[str, ...]) -> tuple[Files, int]:
    """The pictures in the class folders, sorted, and how many other files there were."""
    paths, labels = [], []
    ignored = sum(entry.is_file() for entry in _visible(place))
    for label, name in enumerate(classes):
        for at, folders, files in os.walk(place / name):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for file in sorted(f for f in files if not f.startswith(".")):
                if Path(file).suffix.lower() in ENDINGS:
                    paths.append(Path(at, file))
                    labels.append(label)
                else:
                    ignored += 1
    return Files(tuple(paths), np.asarray(labels, np.int32)), ignored


def fingerprint(root: Path, splits: Mapping[str, Files], classes: tuple[str, ...]) -> str:
    """sha256 over the classes in order and each file's place below `root`, size and first bytes;
    not over its times, so that a copy has the same fingerprint."""
    digest = hashlib.sha256(repr(classes).encode())
    for name, split in splits.items():
        for path in split.paths:
            with path.open("rb") as file:
                head = file.read(HEAD)
            place = path.relative_to(root).as_posix()
            digest.update(f"{name}/{place}/{path.stat().st_size}/".encode() + head)
    return digest.hexdigest()
