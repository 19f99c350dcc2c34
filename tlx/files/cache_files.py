"""Tables on disk: a folder for each, one plain file for each entry, to be mapped into memory.

A table is written under another name and renamed when it is whole, with a manifest of its bytes, so
a killed run leaves no half table that is taken for a whole one and damage is noticed. The folder
of all tables keeps within a number of bytes; what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from tlx.errors import CheckpointError
from tlx.files import manifest
from tlx.types import PyTree

ABOUT = "table.json"
WRITING = ".writing-"
ABANDONED = 86400.0
"""Seconds after which nobody is writing any more what has another name."""


class Stored(NamedTuple):
    """Rows (N,...) that a file holds, and the seconds that it took to compute them."""

    rows: PyTree
    seconds: float


def written(root: Path, key: str, parts: Iterable[PyTree], seconds: Callable[[], float]) -> None:
    """Write the table `key` out of `parts`, rows after rows; `seconds()` is asked at the end.

    Not through a mapping, where a full disk kills the process. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    into = Path(tempfile.mkdtemp(prefix=WRITING, dir=root))
    try:
        with contextlib.ExitStack() as stack:
            files: list = []
            for part in parts:
                leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(part)]
                if not files:
                    files = [
                        stack.enter_context((into / str(number)).open("wb"))
                        for number in range(len(leaves))
                    ]
                for file, leaf in zip(files, leaves, strict=True):
                    file.write(leaf.reshape(-1).view(np.uint8).data)
        manifest.write(into / ABOUT, json.dumps({"seconds": seconds()}))
        manifest.commit(into)
        if not (root / key).exists():  # or else another run was quicker
            into.rename(root / key)
    finally:
        shutil.rmtree(into, ignore_errors=True)


def stored(root: Path, key: str, like: PyTree, *, mapped: bool) -> Stored | None:
    """The rows of the table `key` with the shapes of `like`, mapped or read; None where there is no
    such table. Raises CheckpointError where it is damaged."""
    folder = root / key
    if not folder.is_dir():
        return None
    manifest.verify(folder)
    try:
        seconds = float(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / ABOUT} is damaged.") from error
    leaves = []
    for number, leaf in enumerate(jax.tree.leaves(like)):
        path = folder / str(number)
        if not path.is_file() or path.stat().st_size != leaf.size * leaf.dtype.itemsize:
            raise CheckpointError(f"{path} does not have the size of its rows.")
        raw = np.memmap(path, np.uint8, "r") if mapped else np.fromfile(path, np.uint8)
        leaves.append(np.asarray(raw).view(leaf.dtype).reshape(leaf.shape))
    (folder / manifest.NAME).touch()  # used just now
    return Stored(jax.tree.unflatten(jax.tree.structure(like), leaves), seconds)


def dropped(root: Path, key: str) -> None:
    """Delete a table."""
    with contextlib.suppress(OSError):
        manifest.discard(root / key)


def room(root: Path, nbytes: int, budget: float) -> bool:
    """Whether `nbytes` more fit into `budget` bytes of tables and into half of what is free on the
    disk, once the tables that were not used for longest are deleted."""
    if nbytes > budget:
        return False
    root.mkdir(parents=True, exist_ok=True)
    for path in root.glob(f"{WRITING}*"):
        if time.time() - path.stat().st_mtime > ABANDONED:
            shutil.rmtree(path, ignore_errors=True)
    tables = {path: _used(path) for path in root.iterdir() if not path.name.startswith(WRITING)}
    taken = {path: sum(file.stat().st_size for file in path.iterdir()) for path in tables}
    for path in sorted(tables, key=lambda path: tables[path]):
        if sum(taken.values()) + nbytes <= budget:
            break
        dropped(root, path.name)
        del taken[path]
    return nbytes <= shutil.disk_usage(root).free / 2


def _used(table: Path) -> float:
    """When it was last used, by the clock of the disk; 0 for one that is not whole."""
    there = table / manifest.NAME
    return there.stat().st_mtime if there.exists() else 0.0
