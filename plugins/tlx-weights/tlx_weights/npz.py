"""Weights from a NumPy `.npz` archive of named arrays.

A zip file with a checksum per array, so damage shows. Pickled objects are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from tlx.errors import WeightsError
from tlx.types import InputSpec, LoadReport, Variables
from tlx_weights.matching import Layout, match
from tlx_weights.weight_file import existing, recorded


@final
@dataclass(frozen=True)
class Npz:
    """A WeightSource over an `.npz` file.

    Args:
        path: the file.
        layout: how kernels lie in it; auto is PyTorch's way where names had to be translated.
        sha256: of the file, or how it begins; checked where given.
    """

    path: str
    layout: Layout = "auto"
    sha256: str = ""

    @property
    def input(self) -> InputSpec | None:
        """None: an archive does not say."""
        return None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """None: an archive does not say."""
        return None

    def load(
        self, like: Variables, names: Callable[[str], str | None] | None
    ) -> tuple[Variables, LoadReport]:
        """`like` with the leaves of the file. Raises WeightsError for a file that is missing,
        damaged, of another format or not the one that was meant."""
        file = existing(self.path, ".npz", self.sha256)
        return recorded(file, match(file, _arrays(file), like, names, self.layout))


def _arrays(file: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(file):
        raise WeightsError(f"{file} is no .npz archive, or was cut short. Fetch it again.")
    try:
        # Opened here, because NumPy leaves a file open that turns out to be damaged.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
        raise WeightsError(
            f"{file} cannot be read ({error}). It is damaged, or holds more than plain arrays; "
            f"fetch it again or save plain arrays with numpy.savez."
        ) from error
