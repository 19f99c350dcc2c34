"""A NumPy array in a pickle, built from its parts by nobody but us.

NumPy pickles an array as an empty one that is given its shape, type and bytes afterwards. What
stands for it here keeps these as they are and copies nothing, so that a pickle which speaks of the
same bytes a million times takes no more memory; it becomes an array when all is read.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from tlx.errors import Refused

_PLAIN = re.compile(r"[<>=|]?(b1|i[1248]|u[1248]|f[248]|c8|c16)")
_ODD = "is damaged: an array in it has no shape, type and bytes."


class PickledBytes(NamedTuple):
    """Bytes as protocol 2 writes them, a text of their codes."""

    text: Any
    encoding: Any = "latin1"


@final
@dataclass
class PickledType:
    """A `numpy.dtype` as it is pickled: a code, and the order of bytes, which follows."""

    code: Any
    align: Any = False
    copy: Any = True

    def build(self, state: Any) -> None:
        """Take the order of bytes."""
        match state:
            case (int(), ("<" | ">" | "|" | "=") as order, *_) if type(self.code) is str:
                self.code = order + self.code.lstrip("<>|=")
            case _:
                raise Refused("is damaged: a type of numbers in it is none.")

    @property
    def dtype(self) -> np.dtype:
        """The type. Refused for objects, records and texts."""
        if type(self.code) is not str or not _PLAIN.fullmatch(self.code):
            raise Refused(
                f"holds a NumPy array of the type {str(self.code)[:40]!r}, which is no plain "
                f"number. Nothing in it was executed; save plain arrays."
            )
        return np.dtype(self.code)


@final
@dataclass
class PickledArray:
    """A `numpy.ndarray` as it is pickled: what its state says, once that has come."""

    shape: Any = ()
    kind: PickledType | None = None
    order: Any = "C"
    data: Any = b""

    def build(self, state: Any) -> None:
        """Take shape, type, order and bytes."""
        match state:
            case (int(), shape, PickledType() as kind, order, data):
                self.shape, self.kind, self.data = shape, kind, data
                self.order = "F" if order is True else "C"
            case _:
                raise Refused(_ODD)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        data = self.data.text if isinstance(self.data, PickledBytes) else self.data
        return len(data) if isinstance(data, str | bytes | bytearray) else 0

    def read(self) -> np.ndarray:
        """The array. Raises Refused where its parts do not agree."""
        data, dtype = self.data, self.kind.dtype if self.kind else None
        if isinstance(data, PickledBytes) and isinstance(data.text, str):
            if data.encoding not in ("latin1", "latin-1"):
                raise Refused("is damaged: bytes in it are written in a way that Python does not.")
            data = data.text.encode("latin-1")
        if dtype is None or not isinstance(data, bytes | bytearray):
            raise Refused(_ODD)
        sizes: Any = self.shape
        known = type(sizes) is tuple and len(sizes) <= 64
        if not known or not all(type(size) is int and size >= 0 for size in sizes):
            raise Refused("is damaged: an array in it has a shape without meaning.")
        if math.prod(sizes) * dtype.itemsize != len(data):
            raise Refused(
                f"is damaged: an array in it says that it has the shape {sizes} of {dtype}, and "
                f"has {len(data)} bytes."
            )
        array = np.frombuffer(data, dtype).reshape(sizes, order=self.order)
        return array.astype(dtype.newbyteorder("="), copy=False)


def from_buffer(data: Any, kind: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
    """An array as protocol 5 writes it."""
    if not isinstance(kind, PickledType):
        raise Refused(_ODD)
    return PickledArray(shape, kind, "F" if order == "F" else "C", data)


def of_jax(_function: Any, _arguments: Any, state: Any, *_: Any) -> PickledArray:
    """An array of jax, which is pickled as one of NumPy."""
    array = PickledArray()
    array.build(state)
    return array
