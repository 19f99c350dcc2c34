"""What every wrapper of somebody's network has in common.

Its named features are measured from their shapes and checked when it runs; its modes are said in
the words of its own framework; its parameters become nested dicts with readable leaf paths, whose
names tell kind and stage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import jax

from tlx import trees
from tlx.contracts.calls import has_said
from tlx.contracts.declared import fault_of_inputs
from tlx.contracts.input import Inputs, ports_of
from tlx.errors import ContractError, did_you_mean, listed
from tlx.protocols import Backbone
from tlx.types import (
    Features,
    FeatureSpec,
    LeafInfo,
    LeafKind,
    Mode,
    PyTree,
)

MOVES: frozenset[Mode] = frozenset({"train", "stochastic"})
"""The modes in which running statistics move."""

# --- features ---------------------------------------------------------------------------------


def unmeasured(names: tuple[str, ...]) -> tuple[FeatureSpec, ...]:
    """Specifications that hold no more than names yet."""
    return tuple(FeatureSpec(name, "vector", 0) for name in names)


def abstract_input(backbone: Backbone, inputs: Inputs | None = None) -> tuple[Any, PyTree]:
    """An abstract key, and what the backbone is given of one abstract example, (1,...), by
    `inputs`, its own where there are none."""
    has_said("`inputs` of the backbone", None, fault_of_inputs(backbone.inputs))
    ports = ports_of(backbone.inputs if inputs is None else inputs)
    found = {p.name: jax.eval_shape(p.input.prepare, p.input.example()) for p in ports}
    x = next(iter(found.values())) if len(found) == 1 else found
    return jax.eval_shape(lambda: jax.random.key(0)), x


def by_name(output: Any, specs: tuple[FeatureSpec, ...]) -> Mapping[str, Any]:
    """What a module returned as a mapping: one array is the one feature."""
    if isinstance(output, Mapping):
        return output
    if len(specs) == 1 and hasattr(output, "shape"):
        return {specs[0].name: output}
    raise ContractError(
        f"It returns {_described(output)} but has the features "
        f"{listed(spec.name for spec in specs)}. Let it return a mapping with these names."
    )


def _described(output: Any) -> str:
    if output is None:
        return "nothing (None)"
    many = f" of {len(output)}" if isinstance(output, tuple | list) else ""
    return f"a {type(output).__name__}{many}"


def checked(features: Features, specs: tuple[FeatureSpec, ...]) -> Features:
    """The features, if their names are the ones that were promised; else a ContractError."""
    names = [spec.name for spec in specs]
    for name in names:
        if name not in features:
            raise ContractError(
                f"The module does not return the feature {name!r} that was promised. It returns "
                f"{listed(features)}.{did_you_mean(name, features)}"
            )
    for name in features:
        if name not in names:
            raise ContractError(
                f"The module returns {name!r}, which is not one of its features "
                f"{listed(names)}. Name it there, or do not return it."
            )
    return features


# --- modes ------------------------------------------------------------------------------------

Switches: TypeAlias = tuple[tuple[Mode, tuple[tuple[str, Any], ...]], ...]
"""Names and values per mode (attributes of submodules, arguments of a call), as pairs, so that a
backbone that holds them hashes. A mode without an entry is one that the module does not have."""


def switches(modes: Mapping[Mode, Mapping[str, Any]]) -> Switches:
    """The pairs of a mapping from modes to names and values."""
    return tuple((mode, tuple(sorted(values.items()))) for mode, values in modes.items())


def switched(pairs: Switches, mode: Mode) -> dict[str, Any]:
    """Names and values for `mode`. Raises ContractError where the module does not have it."""
    return dict(dict(pairs)[has_mode(mode, (mode for mode, _ in pairs))])


def has_mode(mode: Mode, modes: Iterable[Mode]) -> Mode:
    """`mode`, if it is one of `modes`; else a ContractError."""
    known = sorted(modes)
    if mode not in known:
        raise ContractError(f"The backbone cannot run in mode {mode!r}; it has {listed(known)}.")
    return mode


# --- parameters -------------------------------------------------------------------------------

WHOLE = "all"
"""The one stage of a module that does not run in pieces."""

_SCALES = ("scale", "gamma")
_SHIFTS = ("b", "bias", "offset", "beta")
_EMBEDDINGS = ("embed", "token", "posemb", "pos_emb", "position")


def nested(tree: PyTree) -> dict[str, Any]:
    """A pytree of any containers as nested dicts with the same leaf paths: a key that holds `/`
    becomes several, a list has numbers. `trees.unflat(like, trees.flat(it))` is the way back."""
    found: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = trees.path_of(keys)
        node, (*above, name) = found, path.split("/")
        for key in above:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or name in node:
            raise ContractError(
                f"The module has two things called {path!r}: a parameter and a layer, or two "
                "parameters. Give one of them another name."
            )
        node[name] = leaf
    return found


def leaf_kind(path: str, every: Collection[str]) -> LeafKind:
    """The kind of the parameter at `path`, where `every` holds the paths of all parameters.

    Flax, Haiku and Keras name a layer's parameters alike everywhere, so the last part of a path
    and the parameters beside it tell. Scale and shift of a normalisation layer are both 'norm'."""
    layer, slash, name = path.rpartition("/")
    if any(word in name for word in _EMBEDDINGS):
        return "embedding"
    scaled = any(f"{layer}{slash}{scale}" in every for scale in _SCALES)
    if name in _SCALES or (name in _SHIFTS and scaled):
        return "norm"
    return "bias" if name in _SHIFTS or name.endswith("bias") else "kernel"


def leaf_infos(
    paths: Iterable[str],
    stages: tuple[str, ...],
    *,
    kind: Callable[[str, Collection[str]], LeafKind] = leaf_kind,
    part: Callable[[str], str] = lambda path: path.split("/", 1)[0],
    out: int = -1,
) -> dict[str, LeafInfo]:
    """Path -> stage, kind and axis of outputs. The stage of a path is what `part` finds in it.
    Raises ContractError for a path of no stage."""
    every = frozenset(paths)
    if stages == (WHOLE,):
        return {path: LeafInfo(WHOLE, kind(path, every), out) for path in every}
    for path in sorted(every):
        if part(path) not in stages:
            raise ContractError(
                f"The parameter {path!r} belongs to no stage: its first part must be one of "
                f"{listed(stages)}."
            )
    return {path: LeafInfo(part(path), kind(path, every), out) for path in every}


def leaf_info(infos: Mapping[str, LeafInfo], path: str) -> LeafInfo:
    """The entry for `path`, or a ContractError with the nearest name."""
    if path not in infos:
        raise ContractError(f"The backbone has no parameter {path!r}.{did_you_mean(path, infos)}")
    return infos[path]
