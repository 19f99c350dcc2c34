"""A NumPy `.npz` archive from a stranger, as plain arrays.

A zip file with a checksum per array, so damage shows. Pickled objects are refused, and no header
is believed before it was held against the bytes that follow it. A float16-sized array without a
type is bfloat16, as JAX programs save it.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from typing import BinaryIO

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from tlx.errors import Refused
from tlx.files.zip_members import begins_like_zip, members, unpacked


def arrays(stream: BinaryIO) -> dict[str, np.ndarray]:
    """Every array of an archive under its name. Raises Refused for what is no such archive, and
    whatever zipfile and NumPy raise over damaged bytes."""
    if not begins_like_zip(stream):
        raise Refused("is no .npz archive. Fetch it again, or name the source that reads it.")
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(stream) as archive:
        for name, info in members(archive).items():
            if not name.endswith(".npy"):
                raise Refused(f"holds {name[:80]!r}, which is no array: it is no .npz archive.")
            found[name.removesuffix(".npy")] = array(name, unpacked(archive, info))
    return found


def array(name: str, data: bytes) -> np.ndarray:
    """The array of an `.npy` member, whose header is held against the bytes that follow it."""
    shape, fortran, dtype, start = header(name, data)
    if dtype.hasobject:
        raise Refused(
            f"holds more than plain arrays: {name[:80]!r} is pickled objects. Nothing was "
            f"executed; save plain arrays with numpy.savez."
        )
    if dtype.fields is not None or dtype.subdtype is not None:
        raise Refused(f"holds more than plain arrays: {name[:80]!r} has the type {dtype}.")
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - start:
        raise Refused(
            f"is damaged: {name[:80]!r} says that it has the shape {shape} of {dtype}, which is "
            f"{count * dtype.itemsize} bytes, and has {len(data) - start}."
        )
    if dtype.kind == "U" and not _is_text(np.frombuffer(data, f"{dtype.byteorder}u4", -1, start)):
        raise Refused(f"is damaged: {name[:80]!r} holds letters that there are not.")
    array = np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")
    if dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _is_text(codes: np.ndarray) -> bool:
    """Whether these are code points that a text can have."""
    surrogate = (codes >= 0xD800) & (codes <= 0xDFFF)
    return bool((codes <= 0x10FFFF).all() and not surrogate.any())


def header(name: str, data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether it lies in Fortran order, type, and where the numbers begin."""
    member = io.BytesIO(data)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with warnings.catch_warnings(action="ignore"):  # a garbled header is odd Python, too
            shape, fortran, dtype = readers[npy.read_magic(member)](member)
    except Exception as error:  # NumPy evaluates it as a literal, which can even be MemoryError
        raise Refused(f"is damaged: {name[:80]!r} has no header of an array.") from error
    if any(size < 0 for size in shape) or dtype.itemsize == 0:
        raise Refused(f"is damaged: {name[:80]!r} has a shape or type without meaning.")
    return shape, fortran, dtype, member.tell()
