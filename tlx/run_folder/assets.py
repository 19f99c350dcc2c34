"""Large parts of a model's inputs, such as a vocabulary, as files beside its description.

Each is named after the port and the option that it stands for; the description holds its name and
its digest, so that another vocabulary, with which every word would mean another one, is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.contracts.calls import called
from tlx.contracts.input import HasAssets, Input, Port
from tlx.errors import WeightsError
from tlx.files import manifest

FOLDER = "assets"


def write_assets(folder: Path, port: Port) -> dict[str, dict[str, str]]:
    """Option -> `file` and `sha256` of what was written below a model's folder; empty for an input
    that is described whole by its options."""
    if not isinstance(port.input, HasAssets):
        return {}
    with called(port.input, "input", "assets"):
        found = port.input.assets()
    about = {}
    for option, content in found.items():
        name = f"{FOLDER}/{port.name}.{option}"
        (folder / FOLDER).mkdir(exist_ok=True)
        manifest.write(folder / name, content)
        about[option] = {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
    return about


def with_assets(folder: Path, input_: Input, about: Mapping[str, Mapping[str, str]]) -> Any:
    """The input with what the files hold. Raises WeightsError where one is gone or another one,
    ValueError for a description that names none within the folder."""
    if not isinstance(input_, HasAssets):
        raise ValueError(f"inputs: {type(input_).__name__} takes no assets")
    contents = {option: _read(folder, one["file"], one["sha256"]) for option, one in about.items()}
    with called(input_, "input", "with_assets"):
        return input_.with_assets(contents)


def _read(folder: Path, name: str, sha256: str) -> bytes:
    if Path(name).parts[:-1] != (FOLDER,) or ".." in Path(name).parts:
        raise ValueError(f"inputs: the asset {name!r} is no file of the folder {FOLDER!r}")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise WeightsError(f"{folder / name} is missing. Copy the model folder again.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{folder / name} is damaged or belongs to another model: its sha256 is not the one in "
            f"the description. Copy the model folder again."
        )
    return content
