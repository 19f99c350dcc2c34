"""What lies in a folder: its pictures, and everything else by what became of it.

Links are followed, each real folder once, so that nothing is read twice and no circle is walked.
What is left out is kept with its name, so that whoever reads a folder can say it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tlx_image.image_formats import endings

from tlx.errors import DataError

SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found",
        "system volume information",
    }
)  # fmt: skip
SYSTEM_FILES = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
"""What operating systems leave beside pictures, in lower case."""

Identity: TypeAlias = tuple[int, int]
"""Device and inode of a folder: the same by whatever links it was reached."""


class Listing(NamedTuple):
    """The entries of one folder, sorted by name. `hidden` are folders that a system or a notebook
    made, and pictures whose names begin with a dot; `dangling` links that lead nowhere."""

    folders: tuple[Path, ...]
    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: tuple[Path, ...]
    dangling: tuple[Path, ...]


class Scan(NamedTuple):
    """As a `Listing`, of a whole tree; `repeated` are links to folders that are read anyway."""

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: tuple[Path, ...]
    dangling: tuple[Path, ...]
    repeated: tuple[Path, ...]


def listing(place: Path) -> Listing:
    """What lies in a folder. DataError where it cannot be looked into."""
    found: dict[str, list[Path]] = {name: [] for name in Listing._fields}
    known = endings()
    try:
        with os.scandir(place) as opened:
            entries = sorted(opened, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"The folder {str(place)!r} cannot be looked into: {error.strerror}."
        ) from error
    for entry in entries:
        if kind := _kind(entry, known):
            found[kind].append(Path(entry.path))
    return Listing(**{name: tuple(paths) for name, paths in found.items()})


def _kind(entry: os.DirEntry[str], known: frozenset[str]) -> str:
    """The field of a `Listing` that an entry belongs to; none for what nobody has to hear of."""
    name, dotted = entry.name.lower(), entry.name.startswith(".")
    picture = os.path.splitext(name)[1] in known
    if os.path.isdir(entry):  # an entry's own `is_dir` fails at a link that leads to itself
        return "hidden" if dotted or name in SYSTEM_FOLDERS else "folders"
    if dotted:  # macOS keeps what it knows of x.png in ._x.png, which is no picture
        return "hidden" if picture and not name.startswith("._") else ""
    if name in SYSTEM_FILES:
        return ""
    if entry.is_symlink() and not os.path.exists(entry):
        return "dangling"
    return "pictures" if picture and os.path.isfile(entry) else "others"  # a pipe would never end


def scan(place: Path, elsewhere: frozenset[Identity] = frozenset()) -> Scan:
    """Everything in a tree, folder by folder; links to the folders `elsewhere` are not followed."""
    found: dict[str, list[Path]] = {name: [] for name in Scan._fields}
    seen = {*elsewhere, identity(place)}
    for at in _tree(place, seen, found["repeated"]):
        for name in Scan._fields[:-1]:
            found[name] += getattr(at, name)
    return Scan(**{name: tuple(paths) for name, paths in found.items()})


def holds_pictures(place: Path) -> bool:
    """Whether there is a picture anywhere in a tree."""
    return any(at.pictures for at in _tree(place, {identity(place)}, []))


def _tree(place: Path, seen: set[Identity], repeated: list[Path]) -> Iterator[Listing]:
    """The listing of a folder and of all below it, in order. `seen` and `repeated` are added to."""
    at = listing(place)
    yield at
    for folder in at.folders:
        if (own := identity(folder)) in seen:
            repeated.append(folder)
            continue
        seen.add(own)
        yield from _tree(folder, seen, repeated)


def identity(place: Path) -> Identity:
    """Which folder it really is."""
    found = os.stat(place)
    return found.st_dev, found.st_ino


def above(root: Path) -> frozenset[Identity]:
    """A folder and all that it lies in, to which no link in it is followed."""
    real = root.resolve()
    return frozenset(identity(place) for place in (real, *real.parents))


def joined(scans: Iterable[Scan]) -> Scan:
    """Several as one."""
    every = list(scans)
    return Scan(*(tuple(p for one in every for p in one[n]) for n in range(len(Scan._fields))))
