"""PyTorch's format before 1.6: five pickles in a row, then the bytes of all storages.

The pickles are a magic number, the version of the format, what the machine was like, what was
saved, and the keys of the storages in the order in which they follow: each its number of elements
(8 bytes) and then the elements. The format before this one, a tar archive, is refused; a single
pickle of NumPy arrays by name is read, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from tlx.errors import Refused
from tlx_weights.torch_pickle import load
from tlx_weights.torch_state import has_tensors
from tlx_weights.torch_tensors import Storage, Storages

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
COUNT = 8
"""Bytes of the number of elements before a storage."""


def contents(stream: BinaryIO) -> tuple[Any, Callable[[Storage], memoryview]]:
    """What was saved, with tensors not yet read, and how to read a storage. Raises Refused, and
    whatever a damaged file makes a parser raise."""
    size = stream.seek(0, 2)
    stream.seek(0)
    data = stream.read(size)  # without a size it would be held twice
    if data[257:262] == b"ustar":
        raise Refused("has PyTorch's oldest format (a tar archive). Save it with a later PyTorch.")
    pickles = io.BytesIO(data)
    first = load(pickles, _none)
    if type(first) is dict and pickles.tell() == size and has_tensors(first):
        return first, _nowhere  # a pickle of NumPy arrays, which needs no storages
    if not _is(first, MAGIC):
        raise Refused("is a pickle, but none of PyTorch's. Nothing in it was executed.")
    if not _is(load(pickles, _none), VERSION):
        raise Refused(f"has another version of PyTorch's format than {VERSION}.")
    machine = load(pickles, _none)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise Refused("was written on a big-endian machine. Save it again on a common one.")
    storages = Storages()
    tree = load(pickles, storages)
    places = _places(data, pickles.tell, load(pickles, _none), storages)

    def raw(storage: Storage) -> memoryview:
        if storage.key not in places:
            raise Refused(f"is damaged: its storage {storage.key[:80]!r} is not there.")
        return places[storage.key]

    return tree, raw


def _places(
    data: bytes, tell: Callable[[], int], keys: Any, storages: Storages
) -> dict[str, memoryview]:
    """The bytes of each storage; they begin where the last pickle has ended."""
    at = tell()
    places: dict[str, memoryview] = {}
    if type(keys) is not list:
        raise Refused("is damaged: the list of its storages is none.")
    for key in keys:
        storage = storages.known.get(key) if type(key) is str else None
        if storage is None or key in places:
            raise Refused("is damaged: the list of its storages names one twice or an unknown one.")
        size = storage.total * storage.dtype.itemsize
        if len(data) < at + COUNT + size:
            raise Refused(f"is cut short: {len(data)} of at least {at + COUNT + size} bytes.")
        if int.from_bytes(data[at : at + COUNT], "little") != storage.total:
            raise Refused(f"is damaged: its storage {key[:80]!r} has another size than it says.")
        places[key] = memoryview(data)[at + COUNT : at + COUNT + size]
        at += COUNT + size
    return places


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _nowhere(storage: Storage) -> memoryview:
    raise Refused(f"is damaged: its storage {storage.key[:80]!r} is not there.")


def _none(reference: object) -> Any:
    raise Refused("is damaged: it refers to a storage where none can be.")
