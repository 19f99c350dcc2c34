"""Weights from a `.safetensors` file, as Hugging Face, timm and tlx itself write them.

The format holds named arrays and nothing that could run. A file that lies in a tlx model folder
brings the preprocessing and the class names that are written beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

from safetensors import SafetensorError
from safetensors.numpy import load_file

from tlx.errors import WeightsError
from tlx.model_folder import ABOUT, TENSORS, Description, describe
from tlx.types import InputSpec, LoadReport, Variables
from tlx_weights.matching import Layout, match
from tlx_weights.weight_file import existing, recorded


@final
@dataclass(frozen=True)
class Safetensors:
    """A WeightSource over a `.safetensors` file.

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
        """The preprocessing written beside the file; None where there is no tlx model folder."""
        return self._about.inputs if self._about else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names written beside the file; None where there are none."""
        return (self._about.classes or None) if self._about and self._about.head else None

    def load(
        self, like: Variables, names: Callable[[str], str | None] | None
    ) -> tuple[Variables, LoadReport]:
        """`like` with the leaves of the file. Raises WeightsError for a file that is missing,
        damaged, of another format or not the one that was meant."""
        file = existing(self.path, ".safetensors", self.sha256)
        _ = self._about  # its digest is checked where there is one
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            raise WeightsError(
                f"{file} is no safetensors file, or was cut short ({error}). Fetch it again."
            ) from error
        return recorded(file, match(file, tensors, like, names, self.layout))

    @cached_property
    def _about(self) -> Description | None:
        file = existing(self.path, ".safetensors")
        beside = file.name == TENSORS and (file.parent / ABOUT).is_file()
        return describe(file.parent) if beside else None
