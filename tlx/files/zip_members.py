"""The members of a zip archive from a stranger, none of which is larger than the file can justify.

A zip file says how large its members become before they are unpacked, may name one twice, and
may let many share the same bytes; each has been used to fill a disk or a memory. DEFLATE makes
1032 bytes of one at the most (zlib, "Maximum Compression Factor"), which bounds an honest claim.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from tlx.errors import Refused

MOST_FROM_ONE = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""Bytes that come out of one stored byte at the most, by method of compression."""
MAGIC = b"PK\x03\x04"
"""How a zip file with something in it begins."""


def members(archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    """The members of an archive by name, checked before a byte of them is unpacked."""
    stream = archive.fp
    assert stream is not None  # it is open
    size = stream.seek(0, 2)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name in found:
            raise Refused(f"holds {name[:80]!r} twice, so it is unclear which one is meant.")
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
            raise Refused(
                f"holds a member {name[:80]!r}, a path that leads out of the archive. Nothing was "
                f"unpacked; do not trust this file."
            )
        if info.flag_bits & 1:
            raise Refused(f"is encrypted (its member {name[:80]!r}). Decrypt it first.")
        if info.compress_type not in MOST_FROM_ONE:
            raise Refused(
                f"has a member {name[:80]!r} compressed by method {info.compress_type}; "
                f"0 (stored) and 8 (deflate) are read."
            )
        if info.file_size > info.compress_size * MOST_FROM_ONE[info.compress_type]:
            raise Refused(
                f"is damaged, or made to fill the memory: its member {name[:80]!r} claims to "
                f"become {info.file_size} bytes out of {info.compress_size}."
            )
        found[name] = info
    packed = sum(info.compress_size for info in found.values())
    if packed > size:
        raise Refused(
            f"is cut short, or made to fill the memory: its members claim {packed} bytes, "
            f"the file has {size}."
        )
    return found


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member that `members` let through; its checksum is checked."""
    with archive.open(info) as member:
        data = member.read(info.file_size)  # `read()` would unpack without a limit
    if len(data) != info.file_size:
        raise Refused(
            f"is damaged: its member {info.filename[:80]!r} has {len(data)} bytes, "
            f"not {info.file_size}."
        )
    return data


def begins_like_zip(stream: BinaryIO) -> bool:
    """Whether a file begins like a zip archive; the stream is left at its beginning."""
    first = stream.read(len(MAGIC))
    stream.seek(0)
    return first == MAGIC
