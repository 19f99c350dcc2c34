"""Weights from a Flax program's `.msgpack`, as `flax.serialization.to_bytes` writes it.

A file is one tree of maps in MessagePack; an array is an extension of its own with shape, type and
bytes. Nothing in it can run. No claim is believed before it was held against the bytes that are
there, and lists are kept short, since a list takes its memory before its items are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import ml_dtypes
import numpy as np

from tlx.errors import Refused
from tlx.types import Location, Tensors
from tlx_weights.weight_file import existing, held, opened

ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Flax's extensions of MessagePack."""
CHUNKED = "__msgpack_chunked_array__"
MOST_ITEMS = 4096
"""Of a list: Flax keeps lists as maps, so that only shapes are lists."""
DEEPEST = 64
TYPES: Mapping[str, np.dtype] = {
    **{
        name: np.dtype(name)
        for name in (
            "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
            "float16", "float32", "float64", "complex64", "complex128",
        )
    },
    **{
        name: np.dtype(getattr(ml_dtypes, name))
        for name in (
            "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float8_e4m3fnuz",
            "float8_e5m2fnuz",
        )
    },
}  # fmt: skip
"""What an array's type may be called."""


@final
@dataclass(frozen=True)
class FlaxMsgpack:
    """A WeightSource over a `.msgpack` file of Flax.

    Args:
        path: the file.
        sha256: of the file, or how it begins; checked where given.
    """

    path: Location
    sha256: str = ""

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small file below `folder`, for the conformance kit."""
        import msgpack

        from tlx.testing.samples import weights

        def packed(array: np.ndarray) -> Any:
            parts = (list(array.shape), array.dtype.name, array.tobytes())
            return msgpack.ExtType(ARRAY, msgpack.packb(parts))

        tree = {name: packed(np.asarray(array)) for name, array in weights().items()}
        folder.mkdir(parents=True, exist_ok=True)
        written: Any = msgpack.packb(tree)
        (folder / "sample.msgpack").write_bytes(written)
        return {"path": str(folder / "sample.msgpack")}

    def tensors(self) -> Tensors:
        """The arrays of the tree, their names joined by `/`. Raises WeightsError for a file that is
        missing, damaged, of another format or not the one that was meant."""
        file = existing(self.path, ".msgpack", self.sha256)
        with opened(file, "Flax msgpack file") as stream:
            values = dict(_arrays(_unpacked(stream.read())))
            if not values:
                raise Refused("holds no arrays: it is none that Flax wrote for a network.")
            return held(file, values)


def _unpacked(data: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(
        data, ext_hook=_extension, max_array_len=MOST_ITEMS, strict_map_key=False
    )


def _extension(code: int, data: bytes) -> Any:
    """An array, or a number; anything else is none of Flax's."""
    import msgpack

    if code == COMPLEX:
        return None  # no network's parameter
    if code not in (ARRAY, SCALAR):
        raise Refused(f"holds an extension {code}, which Flax does not write.")
    match msgpack.unpackb(data, max_array_len=MOST_ITEMS):
        case [list(shape), str(name), bytes(numbers)]:
            return _array(shape, name, numbers)
    raise Refused("is damaged: an array in it is no shape, type and bytes.")


def _array(shape: list[Any], name: str, numbers: bytes) -> np.ndarray:
    if name not in TYPES:
        raise Refused(f"holds an array of the type {name[:80]!r}, which no network's numbers have.")
    dtype = TYPES[name]
    sizes = tuple(shape)
    if len(sizes) > 64 or not all(type(size) is int and size >= 0 for size in sizes):
        raise Refused("is damaged: an array in it has a shape without meaning.")
    if math.prod(sizes) * dtype.itemsize != len(numbers):
        raise Refused(
            f"is damaged: an array in it says that it has the shape {sizes} of {name}, and has "
            f"{len(numbers)} bytes."
        )
    return np.frombuffer(numbers, dtype).reshape(sizes)


def _arrays(tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> array, in the order of the file; large arrays are put together again."""
    if not isinstance(tree, dict):
        raise Refused("holds no tree of names. Save a network's params with Flax's to_bytes.")
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if isinstance(node, dict) and CHUNKED in node:
            yield path, _joined(node)
        elif isinstance(node, dict | list):
            if depth == DEEPEST:
                raise Refused(f"is a tree of more than {DEEPEST} levels, which no network is.")
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            below = [(f"{path}/{key}" if path else str(key), each) for key, each in pairs]
            waiting += [(name, each, depth + 1) for name, each in reversed(below)]
        elif isinstance(node, np.ndarray):
            yield path.removesuffix("/value"), node  # nnx wraps every variable


def _joined(node: dict[Any, Any]) -> np.ndarray:
    """An array that was too large for one object."""
    shape, chunks = node.get("shape"), node.get("chunks")
    if not isinstance(shape, dict) or not isinstance(chunks, dict):
        raise Refused("is damaged: an array in it is cut into parts that are not there.")
    parts: list[Any] = [chunks.get(str(number)) for number in range(len(chunks))]
    sizes: Any = tuple(shape.get(str(axis)) for axis in range(len(shape)))
    if not parts or not all(isinstance(part, np.ndarray) for part in parts):
        raise Refused("is damaged: an array in it is cut into parts that are not there.")
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise Refused("is damaged: an array in it has a shape without meaning.")
    whole = np.concatenate([np.ravel(part) for part in parts])
    if math.prod(sizes) != whole.size:
        raise Refused(f"is damaged: the parts of an array in it are not {sizes}.")
    return whole.reshape(sizes)
