"""A manifest: our own digest of a folder, so that damage is noticed.

`manifest.json` lists every file of a folder as `[size in bytes, sha256]`. It is written last and
removed first, so a folder that has one was written whole, and a folder that matches it holds
the bytes that were written. Orbax and safetensors do not notice a flipped bit; this does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tlx.errors import CheckpointError

NAME = "manifest.json"


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's list of names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    flush(partial)
    partial.replace(path)
    flush(path.parent)


def _files(folder: Path) -> dict[str, Path]:
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found if path != folder / NAME}


def _text(entries: Mapping[str, tuple[int, str]]) -> str:
    return json.dumps({"format": 1, "files": entries}, indent=1, sort_keys=True) + "\n"


def commit(folder: Path) -> None:
    """Declare a folder complete: flush everything in it, then write its manifest.

    What lies on the disk now is what `verify` will ask for."""
    entries: dict[str, tuple[int, str]] = {}
    for name, path in _files(folder).items():
        flush(path)
        entries[name] = path.stat().st_size, digest(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            flush(path)
    write(folder / NAME, _text(entries))
    flush(folder.parent)


def verify(folder: Path) -> None:
    """Compare a folder with its manifest.

    Raises CheckpointError that names the first file that is missing, was changed, is shorter or
    longer, or does not belong, and says what is wrong with it."""
    entries = _entries(folder / NAME)
    files = _files(folder)
    for name in sorted(files.keys() | entries.keys()):
        path = folder / name
        if name not in files:
            raise CheckpointError(f"{path} is missing.")
        if name not in entries:
            raise CheckpointError(f"{path} does not belong there: the manifest does not list it.")
        (size, sha256), found = entries[name], path.stat().st_size
        if found != size:
            raise CheckpointError(f"{path} has {found} bytes, but {size} were written.")
        if digest(path) != sha256:
            raise CheckpointError(f"{path} was changed after it was written (sha256 differs).")


def discard(folder: Path) -> None:
    """Delete a folder, its manifest first, so that a half-deleted one never counts as whole."""
    (folder / NAME).unlink(missing_ok=True)
    flush(folder)
    shutil.rmtree(folder)


def _entries(path: Path) -> dict[str, tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text)["files"]
        if _text(entries) == text:  # the text is canonical, so any changed byte shows
            return {name: (size, sha256) for name, (size, sha256) in entries.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CheckpointError(f"{path} is damaged.")
