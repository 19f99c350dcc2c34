"""Weights from a tlx run: the model that it left, with its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from tlx.model_folder import TENSORS, Description, describe, tensors
from tlx.types import InputSpec, LoadReport, Variables
from tlx_weights.matching import match
from tlx_weights.weight_file import recorded


@final
@dataclass(frozen=True)
class Run:
    """A WeightSource over a tlx run folder, or the `model` folder in it.

    Args:
        path: the folder.
    """

    path: str

    @property
    def input(self) -> InputSpec:
        """The preprocessing that the run used."""
        return self._about.inputs

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names of the run's head; None where it had no head or no classes."""
        return (self._about.classes or None) if self._about.head else None

    def load(
        self, like: Variables, names: Callable[[str], str | None] | None
    ) -> tuple[Variables, LoadReport]:
        """`like` with the leaves of the run. Its names are leaf paths, so `names` is not asked.
        Raises WeightsError for a folder without a model, or a damaged one."""
        folder = self._about.folder
        matched = match(folder, tensors(folder), like, None, layout="jax")
        return recorded(folder / TENSORS, matched)

    @cached_property
    def _about(self) -> Description:
        return describe(Path(self.path).expanduser())
