"""Weights from a tlx run: the model that it left, with its preprocessing and its class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.contracts.input import Inputs
from tlx.files.manifest import digest
from tlx.run_folder.model_folder import TENSORS, Description, describe, tensors
from tlx.trees import flat, part
from tlx.types import Location, Tensors
from tlx.weights.saved import load


@final
@dataclass(frozen=True)
class Run:
    """A WeightSource over a tlx run folder, or the `model` folder in it.

    Args:
        path: the folder.
        trust_code: run the files of Python that the folder names, even if somebody else has
            written it. Only a model that is kept as a change to other weights needs them.
    """

    path: Location
    trust_code: bool = False

    @property
    def input(self) -> Inputs:
        """The preprocessing that the run used."""
        return self._about.inputs

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names of the run's head; None where it had no head or no classes."""
        return (self._about.classes or None) if self._about.head else None

    @property
    def head(self) -> tuple[str, Mapping[str, Any]] | None:
        """The run's head with its options, the mean and spread of targets among them."""
        return self._about.head

    def tensors(self) -> Tensors:
        """The leaves of the run. Raises WeightsError for a folder without a model, or a damaged
        one."""
        folder = self._about.folder
        merged = self._about.base is not None
        whole = _merged(folder, self.trust_code) if merged else tensors(folder)
        whole = {path: leaf for path, leaf in whole.items() if part(path) != "strategy"}
        return Tensors(whole, str(folder), digest(folder / TENSORS))

    @property
    def notes(self) -> tuple[str, ...]:
        """That a part of the run's model is left out, where its strategy extends it."""
        if self._about.extension is None:
            return ()
        return (
            f"The model of {self._about.folder} is extended by its strategy "
            f"{self._about.extension[0]!r}, which is left out: what starts from it starts from its "
            f"backbone and head alone.",
        )

    @cached_property
    def _about(self) -> Description:
        return describe(Path(self.path).expanduser())


def _merged(folder: Path, trust_code: bool) -> dict[str, np.ndarray]:
    """The leaves of a model that is kept as a change to other weights."""
    variables = load(folder, trust_code=trust_code).variables
    return {path: np.asarray(leaf) for path, leaf in flat(variables).items()}
