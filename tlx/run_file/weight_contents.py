"""Which source of weights reads a file, by what is in it rather than by its ending.

`.ckpt`, `.bin` and `.pt` are the endings of many formats. The first bytes tell, and of a zip
archive its members; nothing is unpacked. What is no weights at all but is often found in their
place is told as what it is. Opens without importing jax or numpy.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

FIRST = 4096
"""Bytes that are looked at."""
IMPOSTORS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file with 'git lfs pull'"),
    (b"<!doctype", "a web page: the download went wrong, or needs a login"),
    (b"<html", "a web page: the download went wrong, or needs a login"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; unpack it first"),
    (b"GGUF", "of GGUF, whose numbers are quantised for inference; fetch the original"),
)
"""How something else begins, and what it is."""


def kind(path: Path) -> str:
    """The source of weights that reads this file; empty where its bytes do not say."""
    try:
        with path.open("rb") as stream:
            first = stream.read(FIRST)
        size = path.stat().st_size
    except OSError:
        return ""
    return next((name for name, is_one in KINDS if is_one(first, size, path)), "")


def impostor(path: Path) -> str:
    """What a file is that is no weights, in words; empty for anything else."""
    try:
        with path.open("rb") as stream:
            first = stream.read(FIRST)
    except OSError:
        return ""
    head = first.lstrip()[:64]
    return next(
        (what for magic, what in IMPOSTORS if first.startswith(magic) or _alike(head, magic)), ""
    )


def _alike(head: bytes, magic: bytes) -> bool:
    return magic.startswith(b"<") and head.lower().startswith(magic)


def _is_safetensors(first: bytes, size: int, path: Path) -> bool:
    """Eight bytes with the length of a header, which is JSON."""
    length = int.from_bytes(first[:8], "little")
    return first[8:9] == b"{" and 2 <= length <= size - 8


def _is_hdf5(first: bytes, size: int, path: Path) -> bool:
    return first.startswith(b"\x89HDF\r\n\x1a\n")


def _is_torch(first: bytes, size: int, path: Path) -> bool:
    """A pickle, in an archive or not."""
    return _is_pickle(first) or any(name.split("/")[-1] == "data.pkl" for name in _members(path))


def _is_pickle(first: bytes) -> bool:
    """Protocol 2 to 5, which is what follows the mark of one."""
    return first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_npz(first: bytes, size: int, path: Path) -> bool:
    names = _members(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def _is_keras(first: bytes, size: int, path: Path) -> bool:
    return "model.weights.h5" in _members(path)


def _is_equinox(first: bytes, size: int, path: Path) -> bool:
    """Arrays of NumPy one after the other, or a line of JSON before them; a lone array is none."""
    line = first.find(b"\n") + 1 if first.startswith(b"{") else 0
    return first.startswith(b"\x93NUMPY", line) and path.suffix.lower() != ".npy"


def _is_flax(first: bytes, size: int, path: Path) -> bool:
    """A map of MessagePack whose first key is a text."""
    mark = first[0] if first else 0
    at = 1 if 0x81 <= mark <= 0x8F else {0xDE: 3, 0xDF: 5}.get(mark, 0)
    key = first[at] if at and len(first) > at else 0
    return 0xA0 <= key <= 0xBF or key in (0xD9, 0xDA, 0xDB)


def _members(path: Path) -> list[str]:
    """The names in a zip archive; none where it is no such file, or a damaged one."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\x03\x04":
                return []
            with zipfile.ZipFile(stream) as archive:
                return archive.namelist()
    except Exception:  # damaged bytes make zipfile raise almost anything; its reader will say so
        return []


KINDS: tuple[tuple[str, Callable[[bytes, int, Path], bool]], ...] = (
    ("keras", _is_hdf5),
    ("torch", _is_torch),
    ("npz", _is_npz),
    ("keras", _is_keras),
    ("equinox", _is_equinox),
    ("safetensors", _is_safetensors),
    ("flax", _is_flax),
)
"""Source of weights -> whether it reads a file of these first bytes, this size and this path."""
