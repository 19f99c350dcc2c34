"""What is known of each parameter of a wrapped network.

Its name tells a kind, and what the network does with it tells more: which axes of a kernel count
layers and outputs, and that what is only added to features is no kernel. What the author of the
network says stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, get_args

import jax
from jax import Array

from tlx import trees
from tlx.backbones.axes import Use, uses
from tlx.backbones.wrapping import abstract_input
from tlx.contracts.calls import called, has_returned
from tlx.errors import ContractError, did_you_mean, listed
from tlx.protocols import Backbone
from tlx.types import Features, LeafInfo, LeafKind, Params, State

Words: TypeAlias = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
"""Globs over leaf paths, each with words of `LeafInfo`."""
WORDS = ("kind", "out", "layers")
WANTED = f"tlx.types.LeafInfo(stage, kind), of a kind out of {get_args(LeafKind)}"
NONE: Mapping[str, Mapping[str, Any]] = {}


def leaf_of(backbone: Backbone, path: str) -> LeafInfo:
    """What a backbone says of one of its leaves. Raises ContractError where it fails, or says
    anything else."""
    with called(backbone, "backbone", "leaf"):
        found = backbone.leaf(path)
    fine = isinstance(found, LeafInfo) and isinstance(found.stage, str)
    fine = fine and found.kind in get_args(LeafKind)
    has_returned(f"`leaf` of the backbone for {path!r}", backbone.leaf, found, fine, WANTED)
    return found


def leaf_words(leaves: Mapping[str, Mapping[str, Any]]) -> Words:
    """`{"blocks/*": {"layers": 0}, "*/pos": {"kind": "embedding"}}` as pairs, which hash.

    Raises ContractError for a word that says nothing of a leaf."""
    found = []
    for pattern, said in leaves.items():
        for word, value in said.items():
            known = get_args(LeafKind) if word == "kind" else WORDS
            if word not in WORDS or (word == "kind" and value not in known):
                wrong = value if word == "kind" else word
                raise ContractError(
                    f"leaves[{pattern!r}] says {word} = {value!r}."
                    f"{did_you_mean(str(wrong), known)} It can say of what kind a leaf is "
                    f"({listed(get_args(LeafKind))}), which axes of a kernel count its outputs "
                    f"(out) and which count layers (layers)."
                )
        axes = {w: (v,) if w == "layers" and isinstance(v, int) else v for w, v in said.items()}
        axes = {w: tuple(v) if isinstance(v, list) else v for w, v in axes.items()}
        found.append((pattern, tuple(sorted(axes.items()))))
    return tuple(found)


def leaves_in_use(
    backbone: Backbone, infos: Mapping[str, LeafInfo], words: Words = ()
) -> dict[str, LeafInfo]:
    """`infos`, which go by names, with what the network does with each leaf in mode 'eval', and
    then with what `words` say of it. Nothing is computed.

    Raises ContractError for a glob that fits no parameter."""
    key, x = abstract_input(backbone)
    params, state = jax.eval_shape(backbone.init, key, x)

    def run(params: Params, x: Array, state: State, key: Array) -> Features:
        return backbone.apply(params, state, x, rng=key, mode="eval")[0]

    leaves = trees.flat(params)
    used = zip(leaves.items(), uses(run, params, x, state, key), strict=True)
    found = {path: _as_used(infos[path], leaf.shape, each) for (path, leaf), each in used}
    for pattern, said in words:
        if not (fitting := [path for path in found if fnmatchcase(path, pattern)]):
            raise ContractError(
                f"leaves[{pattern!r}] fits no parameter.{did_you_mean(pattern, found)} The "
                f"backbone has {listed(list(found)[:5])}."
            )
        found |= {path: found[path]._replace(**dict(said)) for path in fitting}
    return found


def _as_used(info: LeafInfo, shape: tuple[int, ...], used: list[Use]) -> LeafInfo:
    layers, picked, ins, outs = (
        frozenset(axis for use in used for axis in getattr(use, name))
        for name in ("layers", "picked", "ins", "outs")
    )
    products = bool(ins or outs)
    if products:  # an index into a stack of kernels takes a layer; one into a window does not
        layers |= {axis for axis in picked - ins - outs if shape[axis] > 1}
    info = info._replace(layers=tuple(sorted(layers)))
    if info.kind != "kernel" or len(shape) - len(layers) < 2:
        return info
    if outs and not (outs & (ins | layers) or ins & layers):
        return info._replace(out=_axis(outs, len(shape)))
    if not products and any(use.beside for use in used):
        return info._replace(kind="embedding")
    return info if len(shape) == 2 else info._replace(out=None)


def _axis(outs: frozenset[int], rank: int) -> int | tuple[int, ...]:
    """One axis as a number, -1 for the last, several as a tuple."""
    first, *more = sorted(outs)
    return (first, *more) if more else -1 if first == rank - 1 else first
