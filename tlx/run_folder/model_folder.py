"""The folder of a model: numbers, and what it takes to use them.

`model.safetensors` holds the numbers under their leaf paths; `model.json` says which backbone and
head they belong to, how examples reach them, what the classes are called, and the digest of the
numbers; large parts of inputs are files below `assets/` (`tlx.run_folder.assets`). A model that is
a small change to other weights names these and holds the change; one that a strategy extends
(`tlx.contracts.extension`) names the strategy and holds its leaves. Nothing is pickled, and a file
that it names (`FILE.py:Object`) is not run unless it is trusted (`tlx.run_file.folder_code`), so
opening somebody's model runs no code of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import tlx
from tlx import registry
from tlx.contracts.field import Fields
from tlx.contracts.input import Input, Inputs, Port, Ports
from tlx.contracts.options import plain_options
from tlx.contracts.validation import fitted
from tlx.errors import WeightsError, did_you_mean, listed
from tlx.files import manifest
from tlx.run_file import folder_code
from tlx.run_file.portable import portable, resolved
from tlx.run_folder import assets, old_inputs
from tlx.run_folder.plugin_reference import reference_of
from tlx.trees import flat
from tlx.types import Variables

WHOLE, CHANGE, EXTENDED, PORTS = 1, 2, 3, 4
"""Formats: all numbers; those in which a model differs from its base; either, with the leaves of a
strategy that extends it; any of these, with the inputs of ports in place of an image's alone."""
PLUGINS = ("backbone", "head", "base", "extension", "inputs", "fields", "targets")
"""Keys of the description in which files may be named."""
TENSORS, ABOUT = "model.safetensors", "model.json"


class Named(Protocol):
    """A plugin as a run file names it."""

    @property
    def name(self) -> str:
        """The reference that the registry finds it by."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """What its factory was given; strings, numbers, lists and mappings of them."""
        ...


class Base(NamedTuple):
    """The weights that a model is a small change to, the digest of their file, and the strategy
    whose `effective` makes one network of both; each is the name and the options of a plugin.
    `prefix` stands before the network's names in that file."""

    weights: tuple[str, dict[str, Any]]
    sha256: str
    strategy: tuple[str, dict[str, Any]]
    prefix: str = ""


class Description(NamedTuple):
    """`model.json`, checked against the tensors beside it. `backbone` and `head` are the name and
    the options of a plugin; `ports` are the inputs of the network, each with the entry and the
    fields that it is bound to, and `fields` those fields by name; `targets` are the fields that
    give predictions back on the plane of an image (`tlx.contracts.field.Restores`)."""

    folder: Path
    backbone: tuple[str, dict[str, Any]]
    head: tuple[str, dict[str, Any]] | None
    ports: Ports
    fields: Fields
    classes: tuple[str, ...]
    base: Base | None = None
    stages: int | None = None
    extension: tuple[str, dict[str, Any]] | None = None
    targets: Mapping[str, Any] = {}

    @property
    def inputs(self) -> Inputs:
        """The input of its one port, or those of several by port."""
        if len(self.ports) == 1:
            return self.ports[0].input
        return {port.name: port.input for port in self.ports}

    @property
    def plugins(self) -> tuple[Any, ...]:
        """All that loading it builds."""
        return self.backbone, self.head, self.base, self.extension


def save_model(
    folder: Path,
    *,
    backbone: Named,
    head: Named | None,
    ports: Ports,
    fields: Fields,
    classes: tuple[str, ...],
    variables: Variables,
    base: Base | None = None,
    same: frozenset[str] = frozenset(),
    stages: int | None = None,
    extension: Named | None = None,
    targets: Fields | None = None,
) -> None:
    """Write the two files. Only backbone and head are kept: what served the training (a strategy's
    average, a divergence's regressor) has no part in a prediction. With a `base`, the strategy's
    parameters are kept, too, and the leaves that are the `same` there are not. With an
    `extension`, the strategy whose hooks belong to the model, its parameters and its state are.
    `stages`: so many of the backbone's, where the network ends before its last.

    Each file is replaced as a whole, the description last; a crash in between leaves a
    digest that does not match, which `load` reports."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    parts = ("backbone",) if head is None else ("backbone", "head")
    if extension is not None:
        parts = (*parts, "strategy")
    kept = Variables(*({p: tree[p] for p in parts if p in tree} for tree in variables))
    if base is not None and "strategy" in variables.params:
        kept = Variables({**kept.params, "strategy": variables.params["strategy"]}, kept.state)
    tensors = {path: _tensor(leaf) for path, leaf in flat(kept).items() if path not in same}
    partial = folder / f".{TENSORS}.partial"
    partial.write_bytes(save(tensors))  # `save_file` lets only its owner read the file
    manifest.flush(partial)
    about = {
        "format": PORTS,
        "tlx": tlx.__version__,
        "backbone": {"name": backbone.name, "options": dict(backbone.options)},
        "head": head and {"name": head.name, "options": dict(head.options)},
        "inputs": {port.name: _port(port, folder) for port in ports},
        "fields": {name: _part("fields", field) for name, field in fields.items()},
        "classes": classes,
        "sha256": manifest.digest(partial),
    }
    if stages is not None:
        about["stages"] = stages
    if base is not None:
        about["base"] = base._asdict()
    if targets:
        about["targets"] = {name: _part("fields", field) for name, field in targets.items()}
    if extension is not None:
        about["extension"] = {"name": extension.name, "options": dict(extension.options)}
    about |= portable({key: about[key] for key in PLUGINS if key in about}, folder)
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    partial.replace(folder / TENSORS)
    manifest.write(folder / ABOUT, text)
    folder_code.remember(folder / ABOUT, about)


def find(path: Path | str) -> Path:
    """The model folder that a run folder or a model folder means.

    Raises WeightsError where there is none, with what is there instead."""
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / ABOUT).is_file():
            return folder
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise WeightsError(f"There is no folder {path}.{did_you_mean(path.name, near)}")
    below = sorted(p.parent.parent.name for p in path.glob(f"*/model/{ABOUT}"))
    hint = (
        f"It holds several runs: name one of {listed(below)}."
        if below
        else "A run writes its model when it ends; finish it with --resume."
        if (path / "run.toml").is_file()
        else "Give the folder of a run, such as runs/NAME."
    )
    raise WeightsError(f"{path} holds no model: there is no {ABOUT} in it. {hint}")


def describe(path: Path | str) -> Description:
    """What a model folder (or a run's folder) holds; the digest of the tensors is checked.

    Raises WeightsError for a folder without a model, of a later format or damaged."""
    folder = find(path)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        form, expected = about["format"], about["sha256"]
        about |= resolved({key: about[key] for key in PLUGINS if key in about}, folder)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{folder / ABOUT} is damaged or no description of a model.") from error
    if form not in (WHOLE, CHANGE, EXTENDED, PORTS):
        raise WeightsError(
            f"{folder / ABOUT} has format {form}; tlx {tlx.__version__} reads formats up to "
            f"{PORTS}. It was written by tlx {about.get('tlx')}: install that version or a later "
            f"one."
        )
    if not (folder / TENSORS).is_file():
        raise WeightsError(f"{folder / TENSORS} is missing. Copy the model folder again.")
    if manifest.digest(folder / TENSORS) != expected:
        raise WeightsError(
            f"{folder / TENSORS} is damaged or belongs to another {ABOUT}: its sha256 is not the "
            f"one written there. Copy the model folder again, or finish the run with --resume."
        )
    try:
        return _description(folder, about)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{folder / ABOUT} lacks or garbles a part: {error}.") from error


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Leaf path -> array of a model folder."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / TENSORS)
    except SafetensorError as error:
        raise WeightsError(f"{folder / TENSORS} is no safetensors file: {error}.") from error


def _tensor(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    # A copy in C order, because safetensors writes the memory as it lies.
    return np.array(leaf, order="C")


def _description(folder: Path, about: Mapping[str, Any]) -> Description:
    """Raises KeyError, TypeError, ValueError or AttributeError for what is missing or garbled."""

    def part(value: Any, where: str) -> tuple[str, dict[str, Any]]:
        return _as(str, value["name"], where), _as(dict[str, Any], value["options"], where)

    base = about.get("base")

    def built(parts: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {name: registry.build("fields", *part(one, where)) for name, one in parts.items()}

    if about["format"] == PORTS:
        given = about["inputs"].items()
        ports = tuple(_read_port(name, one, part, folder) for name, one in given)
        fields = built(about["fields"], "fields")
    else:
        ports, fields = old_inputs.of_images(about["inputs"], about["canvas"])
    if not ports:
        raise ValueError("inputs: there is no port")
    return Description(
        folder=folder,
        backbone=part(about["backbone"], "backbone"),
        head=about["head"] and part(about["head"], "head"),
        ports=ports,
        fields=fields,
        classes=_as(tuple[str, ...], about["classes"], "classes"),
        stages=_as(int | None, about.get("stages"), "stages"),
        extension=about.get("extension") and part(about["extension"], "extension"),
        targets=built(about.get("targets", {}), "targets"),
        base=base and Base(
            _as(tuple[str, dict[str, Any]], base["weights"], "base.weights"),
            _as(str, base["sha256"], "base.sha256"),
            _as(tuple[str, dict[str, Any]], base["strategy"], "base.strategy"),
            _as(str, base.get("prefix", ""), "base.prefix"),
        ),
    )  # fmt: skip


def _as(kind: Any, value: Any, where: str) -> Any:
    found, problems = fitted(kind, value, where)
    if problems:
        raise ValueError("; ".join(problems).rstrip("."))
    return found


def _port(port: Port, folder: Path) -> dict[str, Any]:
    """A port as it is described; what of its input are files of their own is written."""
    about = _part("inputs", port.input)
    if files := assets.write_assets(folder, port):
        options = {k: v for k, v in about["options"].items() if k not in files}
        about |= {"options": options, "assets": files}
    return {**about, "entry": port.entry, "fields": list(port.fields)}


def _part(kind: str, thing: Any) -> dict[str, Any]:
    """The name and the options of a plugin that a run file does not name."""
    return {"name": reference_of(kind, thing), "options": plain_options(thing)}


def _read_port(name: str, about: Any, part: Any, folder: Path) -> Port:
    input_: Input = registry.build("inputs", *part(about, "inputs"))
    if files := about.get("assets"):
        input_ = assets.with_assets(folder, input_, files)
    fields = _as(tuple[str, ...], about["fields"], "inputs.fields")
    return Port(name, input_, _as(str, about["entry"], "inputs.entry"), fields)
