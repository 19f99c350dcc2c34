"""Weights from a NumPy `.npz` archive of named arrays.

A zip file with a checksum per array, so damage shows. Pickled objects are refused. Two things
that NumPy cannot say are understood: a float16-sized array without a type is bfloat16, as
JAX programs save it, and a `NAME.code` with a `NAME.codebook` is `NAME.weight` (trained
quantisation and weight sharing: Han et al. 2016, "Deep Compression", section 3).
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, final

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from tlx.types import InputSpec, Tensors
from tlx_weights.weight_file import Refused, existing, held, opened
from tlx_weights.zip_members import begins_like_zip, members, unpacked

KIND = ".npz archive of plain arrays"


@final
@dataclass(frozen=True)
class Npz:
    """A WeightSource over an `.npz` file.

    Args:
        path: the file.
        sha256: of the file, or how it begins; checked where given.
    """

    path: str
    sha256: str = ""

    @property
    def input(self) -> InputSpec | None:
        """None: an archive does not say."""
        return None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """None: an archive does not say."""
        return None

    def tensors(self) -> Tensors:
        """The arrays of the file. Raises WeightsError for a file that is missing, damaged, of
        another format or not the one that was meant."""
        file = existing(self.path, ".npz", self.sha256)
        with opened(file, KIND) as stream:
            return held(file, _with_codebooks(_arrays(stream)))


def _arrays(stream: BinaryIO) -> dict[str, np.ndarray]:
    if not begins_like_zip(stream):
        raise Refused("is no .npz archive. Fetch it again, or name the source that reads it.")
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(stream) as archive:
        for name, info in members(archive).items():
            if not name.endswith(".npy"):
                raise Refused(f"holds {name[:80]!r}, which is no array: it is no .npz archive.")
            arrays[name.removesuffix(".npy")] = _array(name, unpacked(archive, info))
    return arrays


def _array(name: str, data: bytes) -> np.ndarray:
    """The array of an `.npy` member, whose header is held against the bytes that follow it."""
    shape, fortran, dtype, start = _header(name, data)
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
    array = np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")
    if dtype == np.dtype("V2"):
        return array.view(ml_dtypes.bfloat16)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(name: str, data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
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


def _with_codebooks(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each pair of `NAME.code` and `NAME.codebook` replaced by `NAME.weight`."""
    found = dict(arrays)
    for name in arrays:
        layer, _, last = name.rpartition(".")
        code, book, weight = f"{layer}.code", f"{layer}.codebook", f"{layer}.weight"
        if last != "codebook" or code not in arrays:
            continue
        codes, values = found.pop(code), found.pop(book)
        if values.ndim != 1 or codes.dtype != np.uint8 or codes.max(initial=0) >= len(values):
            raise Refused(f"is damaged: {code!r} has a value that {book!r} does not list.")
        if weight in arrays:
            raise Refused(f"holds {weight!r} twice: by itself, and as {code!r} with {book!r}.")
        found[weight] = values[codes]
    return found
