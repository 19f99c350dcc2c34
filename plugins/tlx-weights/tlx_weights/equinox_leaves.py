"""Weights from an Equinox program's `.eqx`, as `equinox.tree_serialise_leaves` writes it.

The format has no names: it is one `.npy` after the other, in the order of the module's leaves, and
behind a line of JSON where its writer put one there. The leaves are called by their numbers here
(`leaves/0`, `leaves/1`, ...), which a wrapped Equinox module knows.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.errors import Refused
from tlx.files.plain_arrays import array, header
from tlx.types import Location, Tensors
from tlx_weights.weight_file import existing, held, opened

MAGIC = b"\x93NUMPY"
LEAF = "leaves/{}"
LONGEST_LINE = 2**20
"""Bytes of the line of JSON."""
LONGEST_HEADER = 2**16 + 16
"""Bytes before the numbers of an array."""


@final
@dataclass(frozen=True)
class EquinoxLeaves:
    """A WeightSource over an `.eqx` file.

    Args:
        path: the file.
        sha256: of the file, or how it begins; checked where given.
    """

    path: Location
    sha256: str = ""

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small file below `folder`, for the conformance kit."""
        from tlx.testing.samples import weights

        folder.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        for value in weights().values():
            np.save(stream, value)
        (folder / "sample.eqx").write_bytes(stream.getvalue())
        return {"path": str(folder / "sample.eqx")}

    def tensors(self) -> Tensors:
        """The leaves by number. Raises WeightsError for a file that is missing, damaged, of another
        format or not the one that was meant."""
        file = existing(self.path, ".eqx", self.sha256)
        with opened(file, "Equinox file of leaves") as stream:
            return held(file, _leaves(stream.read()))


def _leaves(data: bytes) -> dict[str, np.ndarray]:
    at = _start(data)
    found: dict[str, np.ndarray] = {}
    while at < len(data):
        name = LEAF.format(len(found))
        shape, _, dtype, begin = header(name, data[at : at + LONGEST_HEADER])
        size = begin + int(np.prod(shape, dtype=object)) * dtype.itemsize
        found[name] = array(name, data[at : at + size])
        at += size
    return found


def _start(data: bytes) -> int:
    """Where the first array begins."""
    if data.startswith(MAGIC):
        return 0
    line = data.find(b"\n", 0, LONGEST_LINE) + 1
    if not line or not data.startswith(b"{") or not data.startswith(MAGIC, line):
        raise Refused(
            "is no file that equinox.tree_serialise_leaves wrote: it begins neither with an array "
            "nor with a line of JSON before one."
        )
    return line
