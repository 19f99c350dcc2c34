"""Weights from the files that Keras writes, without Keras.

Three forms: `.h5` of Keras before 3 (weights alone, or a whole model), `.weights.h5` of Keras 3,
and the `.keras` archive around such a file. Only numbers and names are read: the description of a
model is looked at for names, and no layer, function or optimizer in it is ever built.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, final

import h5py
import numpy as np

from tlx.errors import Refused
from tlx.files.zip_members import begins_like_zip, members, unpacked
from tlx.types import Location, Tensors
from tlx_weights.hdf5 import Reader
from tlx_weights.keras_names import Layer, described, grouped, join, plain
from tlx_weights.weight_file import existing, held, opened

NUMBERS, ABOUT = "model.weights.h5", "config.json"
MAGIC = b"\x89HDF\r\n\x1a\n"
UNLAYERED = "top_level_model_weights"
"""The group of Keras 2 for variables of the model itself."""
DEEPEST = 64
"""Levels of layers in layers."""
TRAINING = ("optimizer", "metrics", "compile_metrics", "_optimizer", "optimizer_weights")
"""Groups that only served to train the model."""

Pair: TypeAlias = tuple[str, np.ndarray]


@final
@dataclass(frozen=True)
class KerasFile:
    """A WeightSource over a `.h5`, `.weights.h5` or `.keras` file.

    Tensors are called as Keras calls its variables, `conv1_conv/kernel`; where a `.weights.h5`
    does not tell which variables a layer has left out they keep their number (`bn/0`).

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
        file = folder / "sample.h5"
        with h5py.File(file, "w") as root:
            root.attrs["layer_names"] = ["empty"]
            root.create_group("empty")
            group = root.create_group(UNLAYERED)
            group.attrs["weight_names"] = [f"{name}:0" for name in weights()]
            for name, values in weights().items():
                group[f"{name}:0"] = values
        return {"path": str(file)}

    def tensors(self) -> Tensors:
        """The variables of the model. Raises WeightsError for a file that is missing, damaged, of
        another format, not the one that was meant, or that leads out of itself."""
        file = existing(self.path, ".h5", self.sha256)
        with opened(file, "Keras file") as stream:
            if not begins_like_zip(stream):
                return held(file, _hdf5(stream, None))
            with zipfile.ZipFile(stream) as archive:
                inside = members(archive)
                if NUMBERS not in inside:
                    raise Refused(f"is no .keras archive: there is no {NUMBERS} in it.")
                about = None
                if ABOUT in inside:
                    about = described(json.loads(unpacked(archive, inside[ABOUT])))
                numbers = unpacked(archive, inside[NUMBERS])
            return held(file, _hdf5(io.BytesIO(numbers), about))


def _hdf5(stream: BinaryIO, about: Layer | None) -> dict[str, np.ndarray]:
    if stream.read(len(MAGIC)) != MAGIC:
        raise Refused("is no Keras file. Fetch it again, or name the source that reads it.")
    reader = Reader(stream.seek(0, 2))
    stream.seek(0)
    with h5py.File(stream, "r") as root:
        whole = not reader.words(root, "layer_names") and reader.has(root, "model_weights")
        top = reader.group(root, "model_weights") if whole else root
        if layers := reader.words(top, "layer_names"):
            pairs = _before_3(reader, top, layers)
        else:
            model = about or _outermost(reader, root)
            pairs = _variables(reader, root, model.scope, model, {})
        found: dict[str, np.ndarray] = {}
        for name, values in pairs:
            if name in found:
                raise Refused(f"holds two variables {name!r}, so it is unclear which is meant.")
            found[name] = values
    if not found:
        raise Refused("holds no weights of a Keras model.")
    return found


def _before_3(reader: Reader, top: h5py.Group, layers: list[str]) -> Iterator[Pair]:
    """A group per layer, whose attribute lists the variables in it."""
    for layer in [*layers, UNLAYERED] if reader.has(top, UNLAYERED) else layers:
        group = reader.group(top, layer)
        names = reader.words(group, "weight_names")
        for stored, name in zip(
            names, plain("" if layer == UNLAYERED else layer, names), strict=True
        ):
            yield name, reader.at(group, stored)


def _outermost(reader: Reader, root: h5py.Group) -> Layer:
    """What can be told of the model itself: only a functional one lists its inputs as layers."""
    name = _name(reader, root) if reader.has(root, "vars") else ""
    functional = reader.has(root, "layers") and reader.has(
        reader.group(root, "layers"), "input_layer"
    )
    return Layer("functional" if functional else "", name)


def _variables(
    reader: Reader,
    group: h5py.Group,
    scope: str,
    layer: Layer,
    known: Mapping[str, Layer],
    depth: int = 0,
) -> Iterator[Pair]:
    """The variables of a layer and of the layers in it. A layer is a group with a group `vars`;
    a group without one is a list of layers, which `known` describes by their groups."""
    if depth > DEEPEST:
        raise Refused(f"holds layers in layers, more than {DEEPEST} deep.")
    reader.enter(group)
    for name in reader.names(group):
        if depth == 0 and name in TRAINING:
            continue
        inner = reader.group(group, name)
        if name == "vars":
            numbers = sorted((n for n in reader.names(inner) if n.isdecimal()), key=int)
            for number, variable in zip(numbers, layer.variables(len(numbers)), strict=True):
                yield join(scope, variable), reader.at(inner, number)
        elif reader.has(inner, "vars"):
            child = grouped(name, _name(reader, inner), known)
            yield from _variables(reader, inner, join(scope, child.scope), child, {}, depth + 1)
        else:
            listed = layer.inner() if name == "layers" else {}
            yield from _variables(reader, inner, scope, layer, listed, depth + 1)


def _name(reader: Reader, group: h5py.Group) -> str:
    return reader.word(reader.group(group, "vars"), "name")
