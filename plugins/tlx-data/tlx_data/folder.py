"""A folder of pictures, one sub-folder per class.

Either a folder for each split with a folder per class in each, or the class folders at once, which
then are a lone 'train'; `folder_layout` decides which. Classes are sorted by name. Pictures are
decoded when asked for, and what is no picture is counted and named.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from tlx_image.decode import read
from tlx_image.image_formats import unread_hint

from tlx.errors import DataError, did_you_mean, listed
from tlx.types import DataInfo, Location
from tlx_data.folder_layout import Kind, Layout, Meaning, layout_of, unlabelled_splits
from tlx_data.folder_notes import notes_of
from tlx_data.folder_scan import Listing, Scan, above, identity, joined, listing, scan
from tlx_data.image_info import image_info

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


class _Found(NamedTuple):
    """What was found: the splits, the classes, and sentences about what was not taken."""

    splits: dict[str, Files]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    labelled: bool = True


@final
@dataclass(frozen=True)
class Folder:
    """The folder at `path`, looked through on first use.

    `layout` says whether its folders are splits or classes where that cannot be seen, and `splits`
    what a folder is, by its name: "train", "val", "test" or "ignore". Where no label is needed, its
    pictures, or those of its splits, may lie in no folders of classes. What was left out is in
    `notes`. DataError where there are no class folders, a class is missing from a split, a folder
    can be read in two ways, or a picture is unreadable (when it is read)."""

    path: Location
    layout: Kind = "auto"
    splits: Mapping[str, Meaning] = field(default_factory=dict, hash=False)  # a dict has none
    label_needed: bool = True

    @cached_property
    def info(self) -> DataInfo:
        """Classes, sizes and fingerprint; pictures may differ in shape."""
        splits, classes, _, labelled = self._found
        return image_info(
            name=Path(self.path).resolve().name,
            shape=None,
            classes=classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=fingerprint(Path(self.path), splits, classes),
            labelled=labelled,
        )

    def split(self, name: str) -> Files:
        """The split `name`."""
        return self._found.splits[name]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and what is odd."""
        return self._found.notes

    @cached_property
    def _found(self) -> _Found:
        root = Path(self.path)
        if not root.is_dir():
            near = [e.name for e in root.parent.iterdir()] if root.parent.is_dir() else []
            raise DataError(
                f"The data folder {self.path!r} does not exist or is no folder."
                f"{did_you_mean(root.name, near)}"
            )
        if not self.label_needed and (flat := unlabelled_splits(root, self.layout, self.splits)):
            return _unlabelled(root, flat)
        layout = layout_of(root, self.layout, self.splits)
        places = {split: _class_folders(place, layout) for split, place in layout.roots.items()}
        classes = tuple(sorted(folder.name for folder in places["train"]))
        odd = _spellings(classes, layout.roots["train"])
        _refuse_other_classes(places, classes, self.path)
        elsewhere = above(root) | {
            identity(f) for f in (*layout.roots.values(), *(f for p in places.values() for f in p))
        }
        scans = {
            split: [(scan(folder, elsewhere), classes.index(folder.name)) for folder in folders]
            for split, folders in places.items()
        }
        found = {split: _files(each) for split, each in scans.items()}
        every = joined(one for each in scans.values() for one, _ in each)
        _refuse_empty(layout.roots["train"], classes, found["train"], every)
        around = [listing(place) for place in dict.fromkeys((root, *layout.roots.values()))]
        _refuse_lost(around)
        notes = (*layout.notes, *odd, *notes_of(root, every, around, layout.left_out))
        return _Found(found, classes, notes)


def _unlabelled(root: Path, layout: Layout) -> _Found:
    """The pictures of each split, whose labels nobody reads."""
    scans = {split: scan(place) for split, place in layout.roots.items()}
    around = [] if root in layout.roots.values() else [listing(root)]
    _refuse_lost(around)
    splits = {split: _files([(each, 0)]) for split, each in scans.items()}
    notes = notes_of(root, joined(scans.values()), around, layout.left_out)
    return _Found(splits, (), (*layout.notes, *notes), labelled=False)


def _refuse_lost(around: list[Listing]) -> None:
    """A link without an ending, where classes or splits lie, was one of them."""
    lost = [str(link) for at in around for link in at.dangling if not link.suffix]
    if lost:
        raise DataError(
            f"The link {lost[0]!r} leads nowhere, and may be a folder of pictures that has moved. "
            f"Mend or remove it."
        )


def _class_folders(place: Path, layout: Layout) -> list[Path]:
    return [folder for folder in listing(place).folders if folder not in layout.left_out]


def _files(scans: list[tuple[Scan, int]]) -> Files:
    """The pictures of each class folder with its label."""
    paths = tuple(path for one, _ in scans for path in one.pictures)
    labels = [label for one, label in scans for _ in one.pictures]
    return Files(paths, np.asarray(labels, np.int32))


def _written_alike(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _spellings(classes: tuple[str, ...], place: Path) -> list[str]:
    """Classes that differ only by capitals are said, by what nobody can see refused."""
    groups: dict[str, list[str]] = {}
    if odd := [name for name in classes if name != name.encode(errors="ignore").decode()]:
        raise DataError(
            f"The name of the class folder {odd[0]!r} of {str(place)!r} cannot be written: it is "
            f"no text in UTF-8. Rename the folder; it is what the class is called."
        )
    for name in classes:
        groups.setdefault(_written_alike(name), []).append(name)
    said = []
    for alike in (names for names in groups.values() if len(names) > 1):
        names = listed(map(repr, alike))
        if len({name.casefold() for name in alike}) > 1:
            raise DataError(
                f"The class folders {names} of {str(place)!r} differ only by spaces or by how an "
                f"accent is stored. Put their pictures together, or name them apart."
            )
        said.append(
            f"The class folders {names} differ only by capitals and are {len(alike)} classes; if "
            f"they are one, put their pictures together."
        )
    return said


def _refuse_other_classes(
    places: Mapping[str, list[Path]], classes: tuple[str, ...], path: str
) -> None:
    for split, folders in places.items():
        there = sorted(folder.name for folder in folders)
        odd = sorted(set(classes) ^ set(there))
        if not odd:
            continue
        has, lacks = ("train", split) if odd[0] in classes else (split, "train")
        same = [n for n in odd[1:] if _written_alike(n) == _written_alike(odd[0])]
        hint = f" {odd[0]!r} and {same[0]!r} are written differently; rename one." if same else ""
        raise DataError(
            f"The class folder {odd[0]!r} is in {has!r} but not in {lacks!r} of {path!r}; every "
            f"split needs the same classes.{hint} {split!r} has "
            f"{listed(there, 'no class folders')}."
        )


def _refuse_empty(place: Path, classes: tuple[str, ...], train: Files, every: Scan) -> None:
    """Every class has a picture to learn from in its folder."""
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0)
    if classes and not empty.size:
        return
    if classes:
        what = f"The class folder {classes[empty[0]]!r} of {str(place)!r} holds no picture"
        files = list(every.others)
    else:
        there = listing(place)
        files = [*there.pictures, *there.others]
        only = f", only {len(files)} file{'s'[: len(files) > 1]}" if files else ""
        what = f"The folder {str(place)!r} holds no folder of a class{only}"
    lost = f" {len(every.dangling)} links in it lead nowhere." if every.dangling else ""
    raise DataError(
        f"{what}.{lost}{unread_hint(files)} Put the pictures of each class in a folder named after "
        f"it: {place}/CLASS/PICTURE. A picture ends in .jpg, .png, .webp, .tif or another ending "
        f"that Pillow reads."
    )


def fingerprint(root: Path, splits: Mapping[str, Files], classes: tuple[str, ...]) -> str:
    """sha256 over the classes in order and each file's place below `root`, size and first bytes;
    not over its times, so that a copy has the same fingerprint."""
    digest = hashlib.sha256(repr(classes).encode())
    for name, split in splits.items():
        for path in split.paths:
            with path.open("rb") as file:
                head = file.read(HEAD)
            place = path.relative_to(root).as_posix()
            digest.update(os.fsencode(f"{name}/{place}/{path.stat().st_size}/") + head)
    return digest.hexdigest()
