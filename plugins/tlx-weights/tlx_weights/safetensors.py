"""Weights from a `.safetensors` file, as Hugging Face, timm and tlx itself write them.

The format holds named arrays and nothing that could run. A file that lies in a tlx model folder
brings the preprocessing and the class names that are written beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, final

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tlx.contracts.input import Inputs
from tlx.errors import Refused, WeightsError
from tlx.run_folder.model_folder import ABOUT, TENSORS, Description, describe
from tlx.types import Location, Tensors
from tlx_weights.weight_file import existing, held, opened, replace

TYPES: Mapping[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    **{f"{kind}{8 * n}": np.dtype(f"<{kind.lower()}{n}") for kind in "IU" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
"""What the format calls types of numbers."""


@final
@dataclass(frozen=True)
class Safetensors:
    """A WeightSource over a `.safetensors` file.

    Args:
        path: the file.
        sha256: of the file, or how it begins; checked where given.
    """

    path: Location
    sha256: str = ""

    @property
    def input(self) -> Inputs | None:
        """The preprocessing written beside the file; None where there is no tlx model folder."""
        return self._about.inputs if self._about else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names written beside the file; None where there are none."""
        return (self._about.classes or None) if self._about and self._about.head else None

    def tensors(self) -> Tensors:
        """The arrays of the file. Raises WeightsError for a file that is missing, damaged, of
        another format or not the one that was meant."""
        file = existing(self.path, ".safetensors", self.sha256)
        _ = self._about  # its digest is checked where there is one
        with opened(file, "safetensors file") as stream:
            _fits(stream)
            with safe_open(file, framework="numpy"):
                pass  # its header is held against its size, and its parts against each other
            return held(file, _arrays(stream))

    def write(self, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Write these arrays under these names, readable by PyTorch, timm and transformers;
        `about` becomes the metadata of the file, what is no string in it as JSON."""
        metadata = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in about.items()
        }
        # In C order, because safetensors writes the memory as it lies.
        arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
        try:
            data = save(arrays, {**metadata, "format": "pt"})
        except SafetensorError as error:
            raise WeightsError(f"{self.path} cannot be written: {error}.") from error
        replace(self.path, lambda stream: stream.write(data))

    @cached_property
    def _about(self) -> Description | None:
        file = existing(self.path, ".safetensors")
        beside = file.name == TENSORS and (file.parent / ABOUT).is_file()
        return describe(file.parent) if beside else None


def _arrays(stream: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a file that is sound, each read once."""
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    described = json.loads(stream.read(length))
    described.pop("__metadata__", None)
    found: dict[str, np.ndarray] = {}
    for name, entry in described.items():
        if entry["dtype"] not in TYPES:
            raise Refused(
                f"holds {name[:80]!r} as numbers of the type {entry['dtype']}, which NumPy cannot "
                f"hold one by one. Save it as BF16 or F16."
            )
        begin, end = entry["data_offsets"]
        stream.seek(8 + length + begin)
        array = np.frombuffer(bytearray(stream.read(end - begin)), TYPES[entry["dtype"]])
        found[name] = array.reshape(entry["shape"])
    return found


def _fits(stream: BinaryIO) -> None:
    """Refuse a file whose header, by the length that its first 8 bytes give, is not all there."""
    length = int.from_bytes(stream.read(8), "little")
    size = stream.seek(0, 2)
    if size < 8 or length > size - 8:
        raise Refused(
            f"is no safetensors file, or was cut short: it promises a header of {length} bytes and "
            f"has {size} in all. Fetch it again."
        )
