"""PyTorch's zip format, since 1.6: a pickle, and each storage as a member of its own.

`NAME/data.pkl` is the pickle, `NAME/data/KEY` are the bytes of a storage, `NAME/byteorder` says
in which order they lie (little where it is missing).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from tlx.errors import Refused
from tlx.files.zip_members import members, unpacked
from tlx_weights.torch_pickle import load
from tlx_weights.torch_tensors import Storage, Storages

PICKLE = "data.pkl"


def contents(stream: BinaryIO) -> tuple[Any, Callable[[Storage], bytes]]:
    """What was saved, with tensors not yet read, and how to read a storage while `stream` is
    open. Raises Refused, and whatever a damaged file makes a parser raise."""
    archive = zipfile.ZipFile(stream)
    found = members(archive)
    pickles = [name for name in found if name.count("/") < 2 and name.split("/")[-1] == PICKLE]
    if len(pickles) != 1:
        raise Refused(f"is a zip archive, but no PyTorch file: it has no {PICKLE}.")
    root = pickles[0].removesuffix(PICKLE)
    if any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in found):
        raise Refused(
            "is a TorchScript program, not weights. Nothing in it was executed; load it in PyTorch "
            "and save only its state_dict()."
        )
    order = found.get(f"{root}byteorder")
    if order is not None and unpacked(archive, order) != b"little":
        raise Refused("was written on a big-endian machine. Save it again on a common one.")

    def raw(storage: Storage) -> bytes:
        member = found.get(f"{root}data/{storage.key}")
        size = storage.total * storage.dtype.itemsize
        if member is None or member.file_size != size:
            has = "is not there" if member is None else f"has {member.file_size} bytes"
            raise Refused(f"is damaged: storage {storage.key[:80]!r}, of {size} bytes, {has}.")
        return unpacked(archive, member)

    return load(io.BytesIO(unpacked(archive, found[pickles[0]])), Storages()), raw
