"""Weights from a NumPy `.npz` archive of named arrays.

Beside plain arrays one thing is understood that NumPy cannot say: a `NAME.code` with a
`NAME.codebook` is `NAME.weight` (trained quantisation and weight sharing: Han et al. 2016, "Deep
Compression", section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from tlx.errors import Refused
from tlx.files.plain_arrays import arrays
from tlx.types import Location, Tensors
from tlx_weights.weight_file import existing, held, opened

KIND = ".npz archive of plain arrays"


@final
@dataclass(frozen=True)
class Npz:
    """A WeightSource over an `.npz` file.

    Args:
        path: the file.
        sha256: of the file, or how it begins; checked where given.
    """

    path: Location
    sha256: str = ""

    def tensors(self) -> Tensors:
        """The arrays of the file. Raises WeightsError for a file that is missing, damaged, of
        another format or not the one that was meant."""
        file = existing(self.path, ".npz", self.sha256)
        with opened(file, KIND) as stream:
            return held(file, _with_codebooks(arrays(stream)))


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
