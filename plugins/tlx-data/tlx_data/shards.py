"""Where everything lies in a tar file.

The headers are read once, after which any member can be read by a plain read at its offset. Names
are only names: nothing is extracted and no path is followed. The archive may be a stranger's, so no
number in it is believed before it was held against the file's size, and one that ends before the
file does is damaged rather than short.
"""

from __future__ import annotations

import glob
import itertools
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tlx.errors import DataError

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How files begin that are compressed as a whole."""


class Member(NamedTuple):
    """One file of an archive: its name, and which of the archive's bytes it is. `regular` is False
    for what is no plain run of bytes, such as a link; folders are no members."""

    name: str
    offset: int
    size: int
    regular: bool


def found(pattern: str) -> list[Path]:
    """The files that a path means, in order: `*` and `?` as in a shell, and `{000..009}` for every
    number from 000 to 009, all of which have to be there. Raises DataError where one is not."""
    pieces = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    choices: list[list[str]] = [[pieces[0]]]
    for first, last, after in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        numbers = range(int(first), int(last) + 1)
        if not numbers:
            raise DataError(f"A range in {pattern!r} runs backwards: {{{first}..{last}}}.")
        choices += [[f"{number:0{len(first)}d}" for number in numbers], [after]]
    paths: list[Path] = []
    for parts in itertools.product(*choices):
        text = "".join(parts)
        every = [text] if Path(text).is_file() else sorted(glob.glob(text))
        here = [path for path in map(Path, every) if path.is_file()]
        if not here:
            raise DataError(
                f"There is no shard {text!r}. Shards are local tar files; * stands for anything, "
                f"{{000..009}} for every number from 000 to 009."
            )
        paths += here
    return paths


def members(path: Path, file: BinaryIO) -> Iterator[Member]:
    """The files in the archive that `file` has open, in order. Raises DataError for one that is
    compressed, damaged or cut short."""
    where = f"The shard {str(path)!r}"
    total = path.stat().st_size
    head = file.read(6)
    file.seek(0)
    for magic, kind in PACKED.items():
        if head.startswith(magic):
            raise DataError(
                f"{where} is compressed ({kind}), so that a picture cannot be read without all "
                f"those before it. Unpack it to a plain .tar; JPEGs do not get smaller anyway."
            )
    try:
        with tarfile.open(fileobj=file, mode="r:") as opened:
            archive: Any = opened
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would keep them all
                size = member.size if member.isreg() else 0
                ahead = archive.offset > member.offset  # negative sizes would lead back
                if not ahead or member.size < 0 or member.offset_data + size > total:
                    raise DataError(
                        f"{where} is cut short or damaged: {member.name!r} claims {member.size} "
                        f"bytes from byte {member.offset_data} on, but the file has {total}."
                    )
                if not member.isdir():
                    regular = member.isreg() and not member.issparse()
                    yield Member(member.name, member.offset_data, size, regular)
            end = archive.offset
    except DataError:
        raise
    except Exception as error:  # A damaged header makes tarfile raise almost anything.
        raise DataError(f"{where} cannot be read as a tar file: {error}") from error
    # tarfile takes a header that it cannot read, after the first, for the end.
    file.seek(end)
    if any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(2**20), b"")):
        raise DataError(
            f"{where} is damaged: its members end at byte {end} of {total}, and what follows is "
            f"not empty. Fetch or pack it again."
        )
    if total < end + tarfile.BLOCKSIZE:
        raise DataError(f"{where} is cut short: it lacks the mark of its end. Fetch it again.")
