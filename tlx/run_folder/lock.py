"""One process writes into a folder at a time.

The lock is the operating system's (`flock`), so a process that is killed leaves none behind; the
hidden file that it lies on says who holds it. Where a file system has no such locks, that is said
and the run goes on.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tlx.errors import CheckpointError

LOCK = ".lock"
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextmanager
def held(out: Path) -> Iterator[str]:
    """Hold the folder `out`, which is made where it is not there; what is said where it cannot be
    locked, else ''. An empty folder that this made goes again. Raises CheckpointError where another
    process holds it."""
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    path = out / LOCK
    file, note = _locked(path, out)
    try:
        yield note
    finally:
        if file is not None:
            path.unlink(missing_ok=True)  # while it is held, so that nobody else holds this one
            file.close()
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _locked(path: Path, out: Path) -> tuple[Any, str]:
    """(the open file that holds the lock, '') or (None, why there is none)."""
    why = f"{out} cannot be locked here, so that nothing keeps a second run from writing into it"
    try:
        import fcntl
    except ImportError:  # Windows
        return None, f"{why}."
    while True:
        out.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            if error.errno in TAKEN:
                raise CheckpointError(_refusal(out, holder)) from None
            path.unlink(missing_ok=True)
            return None, f"{why}: {error.strerror}."
        if _same(path, file):  # or whoever held it has removed it meanwhile
            break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file, ""


def _same(path: Path, file: Any) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _refusal(out: Path, holder: str) -> str:
    who = f" ({holder})" if holder else ""
    return (
        f"Another run is writing into {out}{who}. Wait until it has ended or stop it, or give "
        f"--out to write elsewhere."
    )
