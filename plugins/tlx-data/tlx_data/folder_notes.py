"""What a user is told of files in a folder that are not used: how many, why, and some names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tlx_image.image_formats import unread_hint

from tlx.errors import listed
from tlx_data.folder_scan import Listing, Scan

NAMES = 5
"""How many files a sentence lists."""


def notes_of(
    root: Path, found: Scan, beside: Iterable[Listing], left_out: frozenset[Path]
) -> tuple[str, ...]:
    """Sentences about what lies in the class folders, `found`, and beside them, and is not read."""
    around = list(beside)
    loose = [path for at in around for path in at.pictures]
    others = [*(p for at in around for p in at.others), *found.others]
    hidden = [*(p for at in around for p in at.hidden), *found.hidden]
    dangling = [*(p for at in around for p in at.dangling), *found.dangling]
    told = (
        (loose, "picture lies", "pictures lie", "in no folder of a class and was left out", ""),
        (others, "file is", "files are", "no picture and was left out", unread_hint(others)),
        (hidden, "hidden entry", "hidden entries", "was left out", ""),
        (dangling, "link leads", "links lead", "nowhere and was left out", ""),
        (found.repeated, "link leads", "links lead", "to a folder that is read anyway", ""),
        (sorted(left_out), "folder", "folders", "was left out as you say", ""),
    )
    return tuple(_said(root, *each) for each in told if each[0])


def _said(root: Path, paths: Sequence[Path], one: str, many: str, why: str, hint: str) -> str:
    names = [_below(root, path) for path in paths[:NAMES]]
    names += [f"{len(paths) - NAMES:,} more"] if len(paths) > NAMES else []
    if len(paths) == 1:
        return f"1 {one} {why}: {names[0]}.{hint}"
    why = why.replace("no picture", "no pictures").replace("was", "were")
    return f"{len(paths):,} {many} {why}: {listed(names)}.{hint}"


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
