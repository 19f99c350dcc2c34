"""A PyTorch tensor on file: a view of a storage, by offset, size and strides in elements.

Several tensors may view one storage (tied weights), and a view need not lie in C order; both
stay as they are, because NumPy's views are the same thing. A view that reaches outside of its
storage reads foreign memory, so every bound is checked before a view is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import ml_dtypes
import numpy as np

from tlx.errors import Refused
from tlx_weights.pickled_arrays import PickledArray

STORAGES: Mapping[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}
"""The types of `torch.<name>`, the storages that say what their bytes are."""
UNTYPED: Mapping[str, np.dtype] = {
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
"""The types of `torch.<name>` that have no storage of their own: their bytes are untyped."""
TYPES: Mapping[str, np.dtype] = {
    **UNTYPED,
    **{dtype.name: dtype for dtype in STORAGES.values()},
}
"""Every `torch.<name>` that is the type of a plain tensor: PyTorch's names are NumPy's."""
MOST_AXES = 64
"""NumPy's limit."""


class StorageType(NamedTuple):
    """What the elements of a storage are."""

    dtype: np.dtype


class Storage(NamedTuple):
    """`length` elements from `start` on, of the storage `key` that holds `total` elements."""

    key: str
    dtype: np.dtype
    total: int
    start: int
    length: int


class Strided(NamedTuple):
    """A tensor whose numbers have not been read; `offset` and `strides` are in elements."""

    storage: Storage
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


@final
@dataclass(frozen=True)
class Storages:
    """The storages that a pickle has spoken of, by key: as often as it likes, but always alike."""

    known: dict[str, Storage] = field(default_factory=dict)

    def __call__(self, reference: Any) -> Storage:
        """The storage of a persistent id: ("storage", type, key, place, elements), in the older
        format followed by None or (key, start, elements) of a part of it."""
        match reference:
            case ("storage", StorageType(dtype), str(key), _, total, *view) if len(view) < 2:
                root = Storage(key, dtype, whole(total), 0, whole(total))
            case _:
                raise Refused("is damaged: it refers to something that is no storage.")
        if self.known.setdefault(key, root) != root:
            raise Refused(f"is damaged: it describes its storage {key[:80]!r} in two ways.")
        match view:
            case [] | [None]:
                return root
            case [(_, start, length)] if whole(start) + whole(length) <= root.total:
                return root._replace(start=start, length=length)
        raise Refused(f"is damaged: a part of its storage {key[:80]!r} is no part of it.")


def whole(value: object) -> int:
    """A number of elements from a pickle; Refused where it is none that an index can have."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise Refused("is damaged: a tensor in it has a size, stride or offset without meaning.")
    return value


def strided(
    storage: object, offset: object, size: object, strides: object, dtype: np.dtype | None = None
) -> Strided:
    """A tensor over a storage, where it lies within it. `dtype`: of the elements, where the
    storage does not say."""
    if not isinstance(storage, Storage) or type(size) is not tuple or type(strides) is not tuple:
        raise Refused("is damaged: a tensor in it has no storage, size or strides.")
    if len(size) != len(strides) or len(size) > MOST_AXES:
        raise Refused(f"is damaged: a tensor in it has {len(size)} axes, {len(strides)} strides.")
    sizes, steps, first = tuple(map(whole, size)), tuple(map(whole, strides)), whole(offset)
    dtype = dtype or storage.dtype
    room = storage.length * storage.dtype.itemsize // dtype.itemsize
    last = first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if 0 not in sizes and last >= room:
        raise Refused(f"is damaged: a tensor in it reaches to element {last} of {room}.")
    return Strided(storage, dtype, first, sizes, steps)


def arrays(
    tensors: Mapping[str, Strided | PickledArray],
    raw: Callable[[Storage], bytes | memoryview],
    most: int,
) -> dict[str, np.ndarray]:
    """The tensors as arrays, read-only and without a copy; each storage is read once.

    `raw` gives all bytes of a storage. A tensor of more than `most` bytes (a stride of 0 repeats
    numbers without end) is Refused, and so are pickled arrays of more in all."""
    read: dict[str, bytes | memoryview] = {}
    found: dict[str, np.ndarray] = {}
    pickled: dict[int, np.ndarray] = {}
    taken = 0
    for name, tensor in tensors.items():
        if isinstance(tensor, PickledArray):
            if id(tensor) not in pickled:
                taken += tensor.nbytes
                if taken > most:
                    raise Refused("is made to fill the memory: its arrays share their bytes.")
                pickled[id(tensor)] = tensor.read()
            found[name] = pickled[id(tensor)]
            continue
        storage, dtype, offset, size, strides = tensor
        bytes_of_storage = storage.total * storage.dtype.itemsize
        if math.prod(size) * dtype.itemsize > max(most, bytes_of_storage):
            raise Refused(
                f"holds {name[:80]!r} of shape {size}, which repeats its numbers to become larger "
                f"than the file. Save it in PyTorch with .contiguous()."
            )
        if storage.key not in read:
            read[storage.key] = raw(storage)
        if 0 in size:
            found[name] = np.zeros(size, dtype)
            continue
        first = storage.start * storage.dtype.itemsize + offset * dtype.itemsize
        steps = tuple(step * dtype.itemsize for step in strides)
        found[name] = np.ndarray(size, dtype, read[storage.key], first, steps)
    return found
