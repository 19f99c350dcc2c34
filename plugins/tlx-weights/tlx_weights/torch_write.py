"""A state dict as PyTorch's zip format, without PyTorch.

The pickle is written step by step (protocol 2, PEP 307) and the archive stored, not compressed,
with the numbers of each tensor on a multiple of 64 bytes: what `torch.load` reads, with
`weights_only = True` and with `mmap = True`, too.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from tlx.errors import WeightsError, listed
from tlx_weights.torch_tensors import STORAGES, TYPES, UNTYPED

ROOT = "archive"
ALIGNMENT = 64
LOCAL_HEADER = 30
"""Bytes of a zip member's header before its name."""
PADDING = b"FB"
"""The label that PyTorch gives to the bytes that only push the numbers to their place."""


def write(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write these arrays under these names, equal to the bit; WeightsError for types that PyTorch
    does not have."""
    arrays = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, stream, "data.pkl", _pickled(arrays))
        _add(archive, stream, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add(archive, stream, f"data/{key}", array.reshape(-1).view(np.uint8).data)
        _add(archive, stream, "version", b"3\n")


def _plain(name: str, tensor: np.ndarray) -> np.ndarray:
    """The same numbers in C order and the byte order of the format."""
    if tensor.dtype.name not in TYPES:
        raise WeightsError(
            f"{name!r} has the type {tensor.dtype}, which PyTorch has not: {listed(sorted(TYPES))}."
        )
    return np.asarray(tensor, TYPES[tensor.dtype.name], order="C")


def _add(archive: zipfile.ZipFile, stream: BinaryIO, name: str, data: bytes | memoryview) -> None:
    member = zipfile.ZipInfo(
        f"{ROOT}/{name}"
    )  # its date is that of the format: files compare equal
    start = stream.tell() + LOCAL_HEADER + len(member.filename) + len(PADDING) + 2
    fill = -start % ALIGNMENT
    member.extra = PADDING + struct.pack("<H", fill) + bytes(fill)
    archive.writestr(member, data)


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """OrderedDict((name, _rebuild_tensor_v2(storage key, 0, size, strides, False, {})), ...)."""
    empty = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    steps = [pickle.PROTO, b"\x02", empty, pickle.MARK]
    storages = {dtype.name: name for name, dtype in STORAGES.items()}
    for key, (name, array) in enumerate(arrays.items()):
        typed = array.dtype.name not in UNTYPED
        kind = (
            _global("torch", storages[array.dtype.name])
            if typed
            else _global("torch.storage", "UntypedStorage")
        )
        reference = _tuple(
            _text("storage"), kind, _text(str(key)), _text("cpu"),
            _number(array.size if typed else array.nbytes),
        )  # fmt: skip
        arguments = [
            reference + pickle.BINPERSID,
            _number(0),
            _tuple(*map(_number, array.shape)),
            _tuple(*(_number(step // array.itemsize) for step in array.strides)),
            pickle.NEWFALSE,
            empty,
        ]
        if not typed:
            arguments.append(_global("torch", array.dtype.name))
        rebuild = _global("torch._utils", f"_rebuild_tensor_v{2 if typed else 3}")
        steps += [_text(name), rebuild, _tuple(*arguments), pickle.REDUCE]
    return b"".join([*steps, pickle.SETITEMS, pickle.STOP])


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return b"".join([pickle.MARK, *items, pickle.TUPLE])


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data
