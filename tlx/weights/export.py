"""A run's model as other libraries load it: a state dict under the names of its family.

The names are those of a dialect of the backbone, the head included. Beside the numbers lies what a
user of PyTorch needs to feed them, in the `config.json` of timm, so that a folder is in the layout
of the Hugging Face hub and `hf:FOLDER` reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

import tlx
from tlx import registry
from tlx.contracts.calls import called
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import DescribesInput
from tlx.errors import ConfigError, WeightsError, did_you_mean, listed
from tlx.files import manifest
from tlx.protocols import ForeignNames, Standardises, Writes
from tlx.run_folder.model_folder import Description, describe
from tlx.types import Variables
from tlx.weights.matching import state_dict
from tlx.weights.saved import Saved, load

FILES = {"safetensors": "model.safetensors", "torch": "pytorch_model.bin"}
"""What the hub calls a file of each kind."""
CONFIG = "config.json"
COUNTER = "num_batches_tracked"
"""What PyTorch keeps beside a batch norm's statistics: a count that nothing is computed from."""


def export(
    run: str | Path,
    to: Literal["safetensors", "torch"],
    *,
    dialect: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Write the model of a run's folder; `file`, `about`, `dialect`, `tensors` and `bytes`.
    `trust_code` as for `tlx.load`.

    `out` is a folder (`RUN/export` where absent) or, with an ending, a file. Raises WeightsError
    where there is no such model or dialect, where the dialect lacks a name for a leaf, and where
    something is there already, unless `overwrite`."""
    described, saved = describe(run), load(run, trust_code=trust_code)
    if described.extension is not None:
        raise WeightsError(
            f"The model of {run} is extended by its strategy {described.extension[0]!r}, which no "
            f"other library knows: exported without it, it would predict otherwise. Its own file "
            f"is model/model.safetensors in the run's folder, and tlx.load reads it."
        )
    name, _ = described.backbone
    chosen = _chosen(saved.model.backbone, name, dialect)
    tensors = with_counters(state_dict(_in_units(saved), chosen), chosen)
    file, about = _places(Path(run) / "export" if out is None else Path(out), FILES[to])
    there = [str(path) for path in (file, about) if path.exists()]
    if there and not overwrite:
        raise ConfigError(f"{listed(there)} exists already. Use --overwrite, or another --out.")
    file.parent.mkdir(parents=True, exist_ok=True)
    source = registry.build("weights", to, {"path": str(file)})
    if not isinstance(source, Writes):
        raise WeightsError(f"The source of weights {to!r} cannot write, it only reads.")
    facts = {"tlx": tlx.__version__, "backbone": name, "dialect": chosen.name}
    with called(source, "source of weights", "write"):
        source.write(tensors, facts)
    text = json.dumps(config(described), indent=1, ensure_ascii=False) + "\n"
    manifest.write(about, text)
    return {
        "file": str(file),
        "about": str(about),
        "dialect": chosen.name,
        "tensors": len(tensors),
        "bytes": file.stat().st_size,
    }


def _in_units(saved: Saved) -> Variables:
    """The numbers of a model whose outputs are in the labels' units."""
    head, (params, state) = saved.model.head, saved.variables
    if isinstance(head, Standardises):
        with called(head, "head", "in_units"):
            params = {**params, "head": head.in_units(params["head"])}
    return Variables(params, state)


def with_counters(tensors: Mapping[str, np.ndarray], dialect: Dialect) -> dict[str, np.ndarray]:
    """The tensors with the counters that PyTorch's batch norms have, so that no key is missing
    where a dialect knows of them; in the order in which PyTorch keeps them."""
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        found[name] = tensor
        layer, _, last = name.rpartition(".")
        if last == "running_var" and dialect.ignores(f"{layer}.{COUNTER}"):
            found[f"{layer}.{COUNTER}"] = np.array(0, np.int64)
    return found


def config(described: Description) -> dict[str, Any]:
    """timm's `config.json`: how values reach the network, and what its classes are called."""
    classes = list(described.classes) if described.head else []
    cfg: dict[str, Any] = {"num_classes": len(classes)}
    about: dict[str, Any] = {
        "architecture": described.backbone[0],
        "num_classes": len(classes),
        "pretrained_cfg": cfg,
    }
    for port in described.ports:
        if isinstance(port.input, DescribesInput):
            with called(port.input, "input", "describe"):
                cfg |= (said := dict(port.input.describe()))
            if "channel_order" in said:
                about["channel_order"] = cfg.pop("channel_order")
    if classes:
        about["label_names"] = classes
    return about


def _chosen(backbone: Any, name: str, wanted: str | None) -> Dialect:
    spoken = backbone.dialects if isinstance(backbone, ForeignNames) else ()
    known = [dialect for dialect in spoken if not dialect.read_only]
    if not known:
        raise WeightsError(
            f"The backbone {name!r} knows no names of other libraries, so there is nobody to "
            f"export it for. Its own file is model/model.safetensors in the run's folder."
        )
    if wanted is None:
        return known[0]
    names = [dialect.name for dialect in known]
    if wanted not in names:
        raise WeightsError(
            f"The backbone {name!r} has no dialect {wanted!r}.{did_you_mean(wanted, names)} "
            f"It has: {listed(names)}."
        )
    return known[names.index(wanted)]


def _places(out: Path, usual: str) -> tuple[Path, Path]:
    """(file of weights, file about them) for a folder or a file."""
    if out.is_dir() or not out.suffix:
        return out / usual, out / CONFIG
    return out, out.with_suffix(".json")
