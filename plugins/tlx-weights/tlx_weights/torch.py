"""Weights from a PyTorch checkpoint (`.pth`, `.th`, `.pt`, `.bin`), without PyTorch.

Such a file is a program for Python's pickle machine. Nothing in it is executed here: a machine of
our own builds tensors and containers of it and refuses everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.files.zip_members import begins_like_zip
from tlx.types import Location, Tensors
from tlx_weights import torch_legacy, torch_write, torch_zip
from tlx_weights.torch_state import state_dict
from tlx_weights.torch_tensors import arrays
from tlx_weights.weight_file import existing, held, opened, replace


@final
@dataclass(frozen=True)
class Torch:
    """A WeightSource over what `torch.save` wrote.

    Args:
        path: the file, in the zip format or the older one.
        sha256: of the file, or how it begins; checked where given.
        key: where in the file the network is, as a path with dots ("teacher"); "." is the whole
            file. Empty: where there is one place that holds tensors by name.
    """

    path: Location
    sha256: str = ""
    key: str = ""

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small file below `folder`, for the conformance kit."""
        from tlx.testing.samples import weights

        folder.mkdir(parents=True, exist_ok=True)
        options = {"path": str(folder / "sample.pth")}
        Torch(**options).write(weights(), {})
        return options

    def tensors(self) -> Tensors:
        """The tensors of the state dict. Raises WeightsError for a file that is missing, damaged,
        of another format, not the one that was meant, or holds more than data."""
        file = existing(self.path, ".pth", self.sha256)
        with opened(file, "PyTorch file") as stream:
            read = torch_zip.contents if begins_like_zip(stream) else torch_legacy.contents
            tree, raw = read(stream)
            tensors = state_dict(tree, self.key)
            return held(file, arrays(tensors, raw, file.stat().st_size))

    def write(self, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Write these arrays under these names as a state dict for `torch.load`. The format has no
        place for `about`."""
        replace(self.path, lambda stream: torch_write.write(stream, tensors))
