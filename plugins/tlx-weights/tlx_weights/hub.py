"""Weights from the Hugging Face hub, with the preprocessing and the classes written beside them.

Only the files that are needed are fetched: the numbers (safetensors, whole or in shards, else a
PyTorch file, which is read without running anything in it) and the JSON files of
`tlx_weights.hub_config`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import numpy as np
from tlx_image import ImageInput

from tlx.errors import WeightsError, listed
from tlx.protocols import WeightSource
from tlx.run_file.weight_contents import impostor, kind
from tlx.run_file.weight_reference import ENDINGS
from tlx.types import Location, Tensors
from tlx_weights import hub_config, timm_config, transformers_config
from tlx_weights.folder_digest import files_digest
from tlx_weights.hub_config import Preprocessing
from tlx_weights.hub_repo import Repo, missing, open_repo

INDEX = ".index.json"
FILES = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "flax_model.msgpack",
)
"""Where numbers are looked for, in this order."""
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
LONGEST = 64 * 2**20
"""Bytes of a JSON file; those of models with many classes have a few million."""


class Found(NamedTuple):
    """The file of weights, its name in the repository, and the repository at that commit."""

    file: Path
    name: str
    repo: Repo


@final
@dataclass(frozen=True)
class Hub:
    """A WeightSource over a repository on the hub, or a local folder of the same layout.

    Args:
        repo: `owner/name`, `owner/name@revision`, an existing folder, or the `.index.json` of
            shards in one.
        revision: a branch, a tag or a commit.
        file: of the weights in it; where empty, `model.safetensors`, its shards or
            `pytorch_model.bin`.
        sha256: of that file, or how it begins; checked where given. Of shards: of the lines that
            `sha256sum` prints for them in the order of their names.
        preprocessing: 'file', as the JSON files say; 'backbone', as the backbone has it by
            default.
    """

    repo: Location
    revision: str = "main"
    file: str = ""
    sha256: str = ""
    preprocessing: Literal["file", "backbone"] = "file"

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small model below `folder`, for the conformance kit."""
        from safetensors.numpy import save_file

        from tlx.testing.samples import weights

        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights(), folder / FILES[0])
        return {"repo": str(folder)}

    @property
    def input(self) -> ImageInput | None:
        """The preprocessing in the JSON files; None where there is none. Raises WeightsError for
        one that tlx cannot follow."""
        return self._preprocessing.input if self._preprocessing else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the preprocessing tlx does otherwise, in words."""
        return self._preprocessing.notes if self._preprocessing else ()

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names in `config.json`; None where it has none."""
        return hub_config.classes(self._config)

    @property
    def architecture(self) -> str:
        """What `config.json` calls the network; empty where it does not say."""
        return hub_config.architecture(self._config)

    def tensors(self) -> Tensors:
        """The arrays of the file or of all shards. Raises WeightsError for what is missing,
        damaged or not what was meant."""
        found = self._found
        if not found.name.endswith(INDEX):
            values = _reader(found.file, found.name)(str(found.file), self.sha256).tensors()
            return values._replace(origin=f"{self._origin} ({found.name})")
        return self._shards(found)

    @cached_property
    def _found(self) -> Found:
        index = Path(self.repo).expanduser()
        if index.name.endswith(INDEX) and index.is_file():
            return Found(index, index.name, open_repo(str(index.parent), self.revision))
        repo = open_repo(self.repo, self.revision)
        for name in (self.file,) if self.file else FILES:
            if self.file and not _is_inside(name):
                raise WeightsError(f"`file` is a name inside {repo.origin}, not {name!r}.")
            if (file := repo.find(name)) is not None:
                return Found(file, name, repo.at(file, name))
        raise missing(repo, self.file or f"{FILES[0]} or {FILES[2]}")

    @property
    def _origin(self) -> str:
        index = Path(self.repo).expanduser()
        where = str(index.parent) if index.is_file() else self.repo
        return open_repo(where, self.revision).origin

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        return self._json(CONFIG)

    @cached_property
    def _preprocessing(self) -> Preprocessing | None:
        if self.preprocessing == "backbone":
            return None
        if timm_config.is_timm(self._config):
            return timm_config.preprocessing(self._config, f"{self._origin} ({CONFIG})")
        fields = self._json(PROCESSOR)
        if not fields:
            return None
        channels = self._config.get("num_channels", 3)
        where = f"{self._origin} ({PROCESSOR})"
        return transformers_config.preprocessing(
            fields, channels if channels in (1, 3, 4) else 3, where
        )

    def _json(self, name: str) -> Mapping[str, Any]:
        """A JSON object of the repository; empty where there is no such file."""
        file = self._found.repo.find(name)
        return {} if file is None else _object(file, f"{self._origin} ({name})")

    def _shards(self, found: Found) -> Tensors:
        where = f"{self._origin} ({found.name})"
        names = _object(found.file, where).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise WeightsError(f"{where} has no table `weight_map` from tensors to files.")
        if odd := [name for name, shard in names.items() if not _is_file_name(shard)]:
            raise WeightsError(f"{where} names no file for {_quoted(odd)}. Fetch it again.")
        shards = sorted(set(names.values()))
        if odd := [shard for shard in shards if "/" in shard or not _is_inside(shard)]:
            raise WeightsError(f"{where} names files outside of its folder: {_quoted(odd)}.")
        values: dict[str, np.ndarray] = {}
        files: dict[str, Path] = {}
        for shard in shards:
            file = found.repo.find(shard)
            if file is None:
                raise missing(found.repo, shard)
            files[shard] = file
            for name, tensor in _reader(file, shard)(str(file), "").tensors().values.items():
                if names.get(name) != shard:
                    raise WeightsError(f"{where} does not say that {name!r} is in {shard}.")
                values[name] = tensor
        if lost := [name for name in names if name not in values]:
            raise WeightsError(
                f"{where} promises {_quoted(lost)}, which its shards do not hold. Fetch it again."
            )
        return Tensors(values, where, files_digest(files, where, self.sha256))


def _reader(file: Path, name: str) -> Callable[[str, str], WeightSource]:
    """What reads a file that is called `name` there: (path, sha256) to a source."""
    if what := impostor(file):
        raise WeightsError(f"{name!r} on the hub is {what}.")
    match kind(file) or ENDINGS.get(Path(name).suffix.lower()):
        case "safetensors":
            from tlx_weights.safetensors import Safetensors

            return Safetensors
        case "torch":
            from tlx_weights.torch import Torch

            return Torch
        case "npz":
            from tlx_weights.npz import Npz

            return Npz
        case "keras":
            from tlx_weights.keras_file import KerasFile

            return KerasFile
        case "flax":
            from tlx_weights.flax_msgpack import FlaxMsgpack

            return FlaxMsgpack
        case _:
            raise WeightsError(
                f"A file {name!r} on the hub cannot be read. Formats: "
                f"{listed(end for end in ENDINGS if not end.endswith('.json'))}."
            )


def _object(file: Path, where: str) -> Mapping[str, Any]:
    """The JSON object in a file."""
    try:
        with file.open("rb") as opened:
            text = opened.read(LONGEST + 1)
        found = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where} is damaged: {error}. Fetch it again.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{where} holds no JSON object of a sensible size.")
    return found


def _quoted(names: Sequence[str]) -> str:
    """Some of them, in which whatever cannot be printed is escaped."""
    return listed(map(repr, names[:3]))


def _is_file_name(shard: object) -> bool:
    """Whether it can be the name of a file at all."""
    return isinstance(shard, str) and 0 < len(os.fsencode(shard)) < 256 and "\0" not in shard


def _is_inside(name: str) -> bool:
    """Whether a name stays below its folder."""
    parts = name.split("/")
    return "\\" not in name and all(part not in ("", ".", "..") for part in parts)
