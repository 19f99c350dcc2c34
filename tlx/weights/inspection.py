"""What a file of weights holds, and which of the installed networks it fits.

Networks are tried by name and shape alone: none is initialised and no number is moved. The best
fit fills all leaves of a backbone and leaves no tensor of the file unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import registry
from tlx.backbones.wrapping import abstract_input
from tlx.config import WeightsConfig
from tlx.contracts.dialect import Dialect
from tlx.errors import TlxError
from tlx.protocols import Backbone, ForeignNames
from tlx.run_file.weight_reference import reference
from tlx.trees import flat, part
from tlx.types import Variables
from tlx.weights import sources
from tlx.weights.layouts import fitted

MOST = 5
"""Fits that are told."""
LIKELY = 0.95
"""Networks are tried whose first impression is at least this share of the best one's."""
PATHS = Dialect("", ())
"""What a file speaks whose names are leaf paths."""


class Fit(NamedTuple):
    """How a file fits a backbone: how many of its `leaves` the file fills by a `dialect` (empty:
    by leaf paths), and how many tensors are `unused`; a classifier is no part of a backbone."""

    backbone: str
    dialect: str
    filled: int
    leaves: int
    unused: int

    @property
    def score(self) -> float:
        """1 for a file that is this backbone and nothing else."""
        used = self.filled / max(1, self.filled + self.unused)
        return self.filled / max(1, self.leaves) * used


def inspect(text: str, *, trust_code: bool = False) -> dict[str, Any]:
    """Plain data about a file, a folder or a reference: `name`, `origin`, `sha256`, `tensors`
    [{`name`, `shape`, `dtype`}], `parameters` and `bytes` in all, `input` and `classes` where the
    source says so, `fits` [{`backbone`, `dialect`, `filled`, `leaves`, `unused`}], best first.
    `trust_code` as for `tlx.load`."""
    source = sources.open_weights(WeightsConfig(name=reference(text)), trust_code=trust_code)
    found = source.tensors()
    shapes = {name: tuple(tensor.shape) for name, tensor in found.values.items()}
    return {
        "name": reference(text),
        "origin": found.origin,
        "sha256": found.sha256,
        "parameters": sum(int(tensor.size) for tensor in found.values.values()),
        "bytes": sum(int(tensor.nbytes) for tensor in found.values.values()),
        "input": asdict(source.input) if source.input else None,
        "classes": source.classes,
        "fits": [fit._asdict() for fit in fits(shapes)],
        "tensors": [
            {"name": name, "shape": tensor.shape, "dtype": str(tensor.dtype)}
            for name, tensor in found.values.items()
        ],
    }


def fits(shapes: Mapping[str, tuple[int, ...]]) -> list[Fit]:
    """The installed backbones, with their default options, that tensors of these names and shapes
    fit best; none that they do not fit at all. One that cannot be built so is passed over."""
    paths = any(name.startswith("params/") for name in shapes)
    candidates: list[tuple[float, str, Backbone, Dialect]] = []
    known: dict[Dialect, float] = {}
    for plugin in registry.find("backbones"):
        try:
            backbone: Backbone = registry.build("backbones", plugin.reference)
        except (TlxError, ImportError):
            continue
        spoken = backbone.dialects if isinstance(backbone, ForeignNames) else ()
        for dialect in (PATHS,) if paths else spoken:
            if dialect not in known:
                known[dialect] = 1.0 if paths else _share(shapes, dialect)
            likely = known[dialect] * _channels(shapes, backbone)
            candidates.append((likely, plugin.name, backbone, dialect))
    top = max((likely for likely, *_ in candidates), default=0.0)
    found = [
        _fit(name, shapes, _leaves(backbone), dialect)
        for likely, name, backbone, dialect in candidates
        if likely >= LIKELY * top > 0
    ]
    best: dict[str, Fit] = {}
    for fit in sorted(found, key=lambda fit: -fit.score):
        if fit.filled:
            best.setdefault(fit.backbone, fit)
    return list(best.values())[:MOST]


def _share(shapes: Mapping[str, Any], dialect: Dialect) -> float:
    """How much of a file a dialect knows."""
    names = [name for name in shapes if not dialect.ignores(name)]
    return sum(bool(dialect.leaves(name)) for name in names) / max(1, len(names))


def _channels(shapes: Mapping[str, tuple[int, ...]], backbone: Backbone) -> float:
    """How many of a backbone's features have as many channels as any tensor has along an axis:
    looked at first, because even an abstract network takes its time to build."""
    there = {size for shape in shapes.values() for size in shape}
    return sum(spec.channels in there for spec in backbone.features) / len(backbone.features)


def _leaves(backbone: Backbone) -> dict[str, Any]:
    like = jax.eval_shape(backbone.init, *abstract_input(backbone))
    return flat(Variables({"backbone": like.params}, {"backbone": like.state}))


def _fit(
    backbone: str,
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, Any],
    dialect: Dialect,
) -> Fit:
    filled: set[str] = set()
    unused = 0
    for name, shape in shapes.items():
        if dialect.ignores(name):
            continue
        places = dialect.leaves(name)
        hits = {p for p, row in places if p in wanted and _same(shape, wanted[p], row, dialect)}
        if name in wanted and wanted[name].shape == shape:
            hits = {name}
        parts = {part(path) for path in (name, *(p for p, _ in places))}
        unused += not hits and "head" not in parts
        filled |= hits
    return Fit(backbone, dialect.name, len(filled), len(wanted), unused)


def _same(shape: tuple[int, ...], leaf: Any, row: Any, dialect: Dialect) -> bool:
    """Whether a tensor of this shape can be the leaf; a zero without memory stands for it."""
    tensor, _ = fitted(np.broadcast_to(np.float32(0), shape), leaf.shape, row, dialect)
    return tensor.shape == leaf.shape
