"""Where the picture of a row lies, or another value that is a file: in a folder, or in the table.

A table may come from somebody else, so a path is followed only within the folder of the pictures.
Within it a path may be written as other systems write it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from tlx_image.image_formats import endings

from tlx.errors import DataError, did_you_mean
from tlx_data.label_cells import quoted


class Embedded(NamedTuple):
    """A picture that stands in the table: its encoded bytes, and what it is called."""

    content: bytes
    name: str


Picture: TypeAlias = "Path | Embedded"


def pictures_within(root: Path) -> Callable[[Any, str], Picture]:
    """A function from (a cell of a table, the row's place) to the picture. It raises DataError for
    a file that is missing or lies outside of `root`."""
    home = root.resolve()

    def picture(cell: Any, place: str) -> Picture:
        content = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(content, bytes | bytearray | memoryview):
            name = cell.get("path") if isinstance(cell, Mapping) else None
            return Embedded(bytes(content), f"{place} ({name})" if name else place)
        path = cell.get("path") if isinstance(cell, Mapping) else cell
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            raise DataError(f"{place} has no path of a picture, but {quoted(cell)}.")
        return _file(path.strip(), place, root, home)

    return picture


def _file(text: str, place: str, root: Path, home: Path) -> Path:
    if re.match(r"(https?|s3|gs|ftp)://", text):
        raise DataError(
            f"{place} names the picture {quoted(text)}, which lies on another machine. Download "
            f"it, and put its path into the table."
        )
    outside = ""
    for written in _ways(text):
        try:
            path = _below(written, root, home)
            if path is None:
                outside = outside or written
            elif path.is_file():
                return path
        except (OSError, RuntimeError, ValueError) as error:  # too long, or links in a circle
            raise DataError(
                f"{place} names a picture by what can be no path: {quoted(text)} ({error})."
            ) from error
    if outside:
        raise DataError(
            f"{place} names the picture {quoted(text)}, which lies outside of the folder "
            f"{str(root)!r}. Nothing outside of it is read; if the pictures lie elsewhere, "
            f"name their folder as root, and paths within it."
        )
    raise DataError(
        f"{place} names the picture {quoted(text)}, which does not exist in {str(root)!r}."
        f"{_near(text, root, home)}"
    )


def _ways(text: str) -> Iterator[str]:
    """A path as it is written, and as it may be meant."""
    yield text
    text = unquote(text.removeprefix("file://")) if text.startswith("file://") else text
    slashed = text.replace("\\", "/")
    found = [text, slashed, unquote(text), unquote(slashed)]
    if not Path(slashed).suffix:
        found += [slashed + ending for ending in sorted(endings())]
    yield from dict.fromkeys(found)


def _below(text: str, root: Path, home: Path) -> Path | None:
    """A path within `root`, by one name however it was written; None for one outside."""
    if re.match(r"[A-Za-z]:[\\/]", text) and os.name != "nt":
        return None
    if not os.path.isabs(text):
        # Normalised, so that a picture has one name; a link may still lead elsewhere.
        path = root / os.path.normpath(text)
        return path if path.resolve().is_relative_to(home) else None
    for start in (root.absolute(), home):
        if (written := Path(os.path.normpath(text))).is_relative_to(start):
            path = root / written.relative_to(start)
            return path if path.resolve().is_relative_to(home) else None
    real = Path(text).resolve()
    return root / real.relative_to(home) if real.is_relative_to(home) else None


def _near(text: str, root: Path, home: Path) -> str:
    """A file beside the missing one that may be meant."""
    path = _below(text.replace("\\", "/"), root, home)
    if path is None or not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
