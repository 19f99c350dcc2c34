"""What a file of weights holds, and which of the installed networks it fits.

Networks are tried by name and shape alone: none is initialised and no number is moved. The best
fit fills all leaves of a backbone and leaves no tensor of the file unused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import numpy as np

from tlx import registry
from tlx.config import WeightsConfig
from tlx.contracts.dialect import Dialect
from tlx.contracts.file_facts import architecture_of, classes_of, input_of
from tlx.contracts.input import HasAssets, Inputs
from tlx.data.inputs import trained_inputs
from tlx.errors import TlxError
from tlx.protocols import Backbone, WeightSource
from tlx.run_file.weight_reference import reference
from tlx.weights import sources
from tlx.weights.initial import backbone_leaves
from tlx.weights.leftovers import claimed, leftover
from tlx.weights.places import TREE, Place, cuts, find_places, has_shape, places_of
from tlx.weights.refusals import tensors_of

MOST = 5
"""Fits that are told."""
LIKELY = 0.95
"""Networks are tried whose first impression is at least this share of the best one's."""


class Fit(NamedTuple):
    """How a file fits a backbone: how many of its `leaves` the file fills by a `dialect` (empty:
    by leaf paths) behind a `prefix`, and how many tensors of its network are `unused`; a classifier
    is no part of it."""

    backbone: str
    dialect: str
    prefix: str
    filled: int
    leaves: int
    unused: int

    @property
    def score(self) -> float:
        """1 for a file that is this backbone and nothing else."""
        used = self.filled / max(1, self.filled + self.unused)
        return self.filled / max(1, self.leaves) * used


def inspect(text: str, *, key: str = "", trust_code: bool = False) -> dict[str, Any]:
    """Plain data about a file, a folder or a reference: `name`, `origin`, `sha256`, `tensors`
    [{`name`, `shape`, `dtype`}], `parameters` and `bytes` in all, `input`, `classes` and
    `architecture` where the source says so, `fits` [{`backbone`, `dialect`, `prefix`, `filled`,
    `leaves`, `unused`}], best first. `key` is the place in the file, for a source that has such an
    option; `trust_code` as for `tlx.load`."""
    options = {"key": key} if key else {}
    config = WeightsConfig(name=reference(text), options=options)
    source = sources.open_weights(config, trust_code=trust_code)
    found = tensors_of(config.name, source)
    return {
        "name": config.name,
        "origin": found.origin,
        "sha256": found.sha256,
        "parameters": sum(int(tensor.size) for tensor in found.values.values()),
        "bytes": sum(int(tensor.nbytes) for tensor in found.values.values()),
        "input": _about_input(input_of(source)),
        "classes": classes_of(source),
        "architecture": architecture_of(source),
        "fits": [fit._asdict() for fit in fits(found.values, source)],
        "tensors": [
            {"name": name, "shape": tensor.shape, "dtype": str(tensor.dtype)}
            for name, tensor in found.values.items()
        ],
    }


def _about_input(inputs: Inputs | None) -> Any:
    """The options of an input, or of several by port; None where nobody says."""
    if isinstance(inputs, Mapping):
        return {name: _about_input(one) for name, one in inputs.items()}
    if inputs is None:
        return None
    files = inputs.assets() if isinstance(inputs, HasAssets) else {}
    options = asdict(cast("Any", inputs))
    return {k: f"{len(v):,} in a file" if k in files else v for k, v in options.items()}


def fits(tensors: Mapping[str, np.ndarray], source: WeightSource | None = None) -> list[Fit]:
    """The installed backbones, with their default options, that tensors of these names and shapes
    fit best, given what their `source` says of their inputs; none that they do not fit at all. One
    that cannot be built so is passed over, and one that the file holds several times comes as
    often."""
    paths = any(name.startswith("params/") for name in tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    candidates: list[tuple[float, str, Backbone]] = []
    known: dict[Dialect, float] = {}
    for plugin in registry.find("backbones"):
        try:
            backbone: Backbone = registry.build("backbones", plugin.reference)
        except (TlxError, ImportError):
            continue
        for dialect in sources.foreign_names(backbone):
            known.setdefault(dialect, _share(tensors, dialect))
        shares = [known[dialect] for dialect in sources.foreign_names(backbone)]
        share = 1.0 if paths else max(shares, default=0.0)
        candidates.append((share * _channels(shapes, backbone), plugin.name, backbone))
    top = max((likely for likely, *_ in candidates), default=0.0)
    found = [
        fit
        for likely, name, backbone in candidates
        if likely >= LIKELY * top > 0
        for fit in _fits(name, tensors, backbone, _inputs(backbone, source))
    ]
    return sorted(found, key=lambda fit: -fit.score)[:MOST]


def _share(names: Collection[str], dialect: Dialect) -> float:
    """How much of a file a dialect knows."""
    kept = [name for name in names if not dialect.ignores(name)]
    known = (any(dialect.leaves(name[at:]) for at in cuts(name)) for name in kept)
    return sum(known) / max(1, len(kept))


def _channels(shapes: Mapping[str, tuple[int, ...]], backbone: Backbone) -> float:
    """How many of a backbone's features have as many channels as any tensor has along an axis:
    looked at first, because even an abstract network takes its time to build."""
    there = {size for shape in shapes.values() for size in shape}
    return sum(spec.channels in there for spec in backbone.features) / len(backbone.features)


def _inputs(backbone: Backbone, source: WeightSource | None) -> Inputs:
    """Those that the weights were trained with, where the backbone takes them."""
    try:
        return trained_inputs(backbone, source)
    except TlxError:
        return backbone.inputs


def _fits(
    name: str, tensors: Mapping[str, np.ndarray], backbone: Backbone, inputs: Inputs
) -> list[Fit]:
    """A fit for every place at which as many leaves are named as at the best one."""
    wanted = backbone_leaves(backbone, inputs)
    places = find_places(tensors, wanted, sources.foreign_names(backbone))
    if own := frozenset(tensors.keys() & wanted.keys()):
        places = [Place("", TREE, own)]
    alike: dict[str, Place] = {}
    for place in places:
        if place.body == places[0].body:
            alike.setdefault(place.prefix, place)
    best = [alike[""]] if "" in alike else alike.values()  # what stands further in are copies
    found = (_fit(name, place, tensors, wanted) for place in best)
    return [fit for fit in found if fit.filled]


def _fit(
    backbone: str, place: Place, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any]
) -> Fit:
    filled: dict[str, str] = {}
    for name, tensor in tensors.items():
        for path, row in places_of(name, wanted, place):
            if path in wanted and has_shape(tensor, wanted[path], row, place.dialect):
                filled[path] = name
    taken, used = claimed(place, filled.values(), tensors), set(filled.values())
    unused = sum(
        leftover(name, tensor, place, taken, wanted).part == "backbone"
        for name, tensor in tensors.items()
        if name not in used and not place.dialect.ignores(place.bare(name) or name)
    )
    return Fit(backbone, place.dialect.name, place.prefix, len(filled), len(wanted), unused)
