"""A weight file on disk: that it is there, that it is the one that was meant, what is said of a
damaged one, and how one is written as a whole or not at all.

No format of weights notices a changed bit in its numbers, so a digest can be asked for. Files
come from strangers: a parser says `Refused` and why, and every other complaint over their bytes
becomes a sentence here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tlx.errors import Refused, WeightsError, did_you_mean
from tlx.files import manifest
from tlx.types import Tensors


def existing(path: str, ending: str, sha256: str = "") -> Path:
    """The file at `path` (`~` is the home folder).

    Raises WeightsError where there is none, with the nearest name that exists, and where its
    sha256 does not start with the one that was given."""
    file = Path(path).expanduser()
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.name.endswith(ending))
        hint = f" It holds {', '.join(inside[:5])}: name one." if inside else ""
        raise WeightsError(f"{file} is a folder, not a {ending} file.{hint}")
    if not file.is_file():
        folder = file.parent
        if not folder.is_dir():
            raise WeightsError(f"There is no file {file}: its folder does not exist.")
        near = did_you_mean(file.name, (p.name for p in folder.iterdir()))
        raise WeightsError(f"There is no file {file}.{near}")
    if sha256:
        found = manifest.digest(file)
        if not found.startswith(sha256.lower()):
            raise WeightsError(
                f"{file} is not the file that was meant: its sha256 is {found}, not {sha256}. "
                f"Fetch it again, or correct `sha256`."
            )
    return file


@contextmanager
def opened(file: Path, kind: str) -> Iterator[BinaryIO]:
    """The bytes of a file of this kind ("PyTorch file"), for a parser.

    Whatever is raised meanwhile leaves as a WeightsError; only running out of memory stays what
    it is, because nothing here may take more of it than the file is worth."""
    try:
        with file.open("rb") as stream:
            yield stream
    except (WeightsError, MemoryError):
        raise
    except Refused as why:
        raise WeightsError(f"{file} {why}") from None
    except Exception as error:  # damaged bytes make zipfile, NumPy and pickletools raise anything
        why = "".join(letter if letter.isprintable() else "?" for letter in str(error)[:200])
        raise WeightsError(
            f"{file} cannot be read ({type(error).__name__}: {why}). It is damaged or no {kind}; "
            f"fetch it again."
        ) from error


def held(file: Path, values: Mapping[str, np.ndarray]) -> Tensors:
    """What was read from a file, as its source hands it on.

    Refuses names with control characters: they would reach the terminal."""
    for name in values:
        if not name.isprintable():
            raise Refused(f"holds a tensor whose name cannot be printed: {name[:80]!r}.")
    return Tensors(values, str(file), manifest.digest(file))


def replace(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a crash."""
    file = Path(path).expanduser()
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "cannot be written: its folder does not exist"
        raise WeightsError(f"{file} {what}. Name a file in a folder that exists.")
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
        manifest.flush(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    manifest.flush(file.parent)
