"""From the tensors of a file to the leaves of a model and back, with every one accounted for.

A name in the file is a leaf path, or one of the backbone's dialects translates it, at the one place
in the file where the network is. Numbers change only where the dialect says how, and the report
says where they did and what was left over. `state_dict` goes the other way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.contracts.dialect import FILLED, Dialect, Row
from tlx.errors import WeightsError, listed
from tlx.trees import flat, unflat
from tlx.types import FreshLeaf, LoadedLeaf, LoadReport, SkippedTensor, Tensors, Variables
from tlx.weights.layouts import fitted, written
from tlx.weights.leftovers import claimed, leftover
from tlx.weights.places import SAME, Place, find_place, is_head, places_of

FOLDED = (
    "batch norm is folded into the convolutions of the file; it is set to the identity, and a "
    "phase in which batch statistics move puts others in its place at the first step"
)

VARIANCE = re.compile(r"state/.*\b(moving_|running_)?var(iance)?(_ema/average)?")
"""Leaf paths of running variances, as frameworks call them."""


class _Claim(NamedTuple):
    name: str
    row: Row


def match(
    tensors: Tensors, like: Variables, dialects: Sequence[Dialect] = (), prefix: str = ""
) -> tuple[Variables, LoadReport]:
    """`like` with the leaves that the file has, and what became of every leaf and every tensor.

    `like` may be abstract; `prefix` says where in the file the network is, where it is there more
    than once. A tensor that no leaf takes and that is of the part 'backbone' is a sign of another
    network: whoever loads a file for good refuses it. Raises WeightsError, naming the file and the
    tensor, where two tensors are the same leaf, where a used one holds a number that is not finite
    or a variance below zero, where the file pads convolutions otherwise than the network, and where
    the network is there several times."""
    wanted = flat(like)
    place = find_place(tensors.values, wanted, dialects, prefix, tensors.origin)
    claims = _claims(tensors, wanted, place)
    leaves: dict[str, Any] = {}
    loaded: list[LoadedLeaf] = []
    fresh: list[FreshLeaf] = []
    skipped = _left(tensors, wanted, place, claims)
    conversions: Counter[tuple[str, str]] = Counter()
    for path, leaf in wanted.items():
        leaves[path] = leaf
        shape = tuple(leaf.shape)
        if path not in claims:
            fresh.append(FreshLeaf(path, shape, "the file has no tensor for it"))
            continue
        name, row = claims[path]
        tensor, change = tensors.values[name], ""
        if row is SAME:
            tensor, change = _another_size(tensor, path, shape, dialects)
        else:
            tensor, change = fitted(tensor, shape, row, place.dialect)
        why = _differs(tensor, leaf)
        if why:
            fresh.append(FreshLeaf(path, shape, why))
            part = "head" if is_head(path) else ""
            skipped.append(SkippedTensor(name, tuple(tensors.values[name].shape), why, part))
            continue
        if tensor.dtype != leaf.dtype:
            conversions[str(tensor.dtype), str(leaf.dtype)] += 1
        _check_variance(tensors, name, path, row)
        leaves[path] = jnp.array(_finite(tensors.origin, name, tensor, leaf.dtype))
        loaded.append(LoadedLeaf(path, name, shape, change))
    notes = [f"{n} leaves converted from {a} to {b}" for (a, b), n in conversions.items()]
    spoken = place.dialect if any(claims[leaf.path].row is not SAME for leaf in loaded) else None
    if spoken is not None:
        notes += _conventions(tensors.origin, spoken)
        if any(claims[leaf.path].row.layout in FILLED for leaf in loaded):
            notes.append(FOLDED)
    report = LoadReport(
        tuple(loaded),
        tuple(fresh),
        tuple(skipped),
        spoken.name if spoken else "",
        tensors.sha256,
        tuple(notes),
        place.prefix,
    )
    return unflat(like, leaves), report


def _claims(tensors: Tensors, wanted: Mapping[str, Any], place: Place) -> dict[str, _Claim]:
    """Leaf path -> the tensor that fills it."""
    claims: dict[str, _Claim] = {}
    # What stands at the place itself goes before a head further out.
    for name in sorted(tensors.values, key=lambda name: not name.startswith(place.prefix)):
        for path, row in places_of(name, wanted, place):
            if path not in wanted or (path in claims and place.bare(name) is None):
                continue
            if path in claims:
                raise WeightsError(
                    f"{tensors.origin} holds the leaf {path!r} twice: as {claims[path].name!r} "
                    f"and as {name!r}. Remove one of them from the file."
                )
            claims[path] = _Claim(name, row)
    return claims


def _left(
    tensors: Tensors, wanted: Mapping[str, Any], place: Place, claims: Mapping[str, _Claim]
) -> list[SkippedTensor]:
    """The tensors that no leaf takes, in the order of the file."""
    used = {claim.name for claim in claims.values()}
    body = {claim.name for path, claim in claims.items() if not is_head(path)}
    taken = claimed(place, body, tensors.values)
    found = []
    for name, tensor in tensors.values.items():
        if name in used or place.dialect.ignores(place.bare(name) or name):
            continue
        part, why = leftover(name, tensor, place, taken, wanted)
        found.append(SkippedTensor(name, tuple(tensor.shape), why, part))
    return found


def state_dict(variables: Variables, dialect: Dialect) -> dict[str, np.ndarray]:
    """The leaves under the names and in the layout of a dialect.

    Raises WeightsError that lists the leaves which the dialect has no name for."""
    whole: dict[str, np.ndarray] = {}
    parts: dict[str, dict[int, np.ndarray]] = {}
    nameless = []
    for path, leaf in flat(variables).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        named = dialect.name_of(path)
        if named is None:
            nameless.append(path)
            continue
        name, row = named
        array = written(np.asarray(leaf), row, dialect)
        if row.part is None:
            whole[name] = array
        else:
            parts.setdefault(name, {})[row.part[0]] = array
    if nameless:
        raise WeightsError(
            f"The dialect {dialect.name!r} has no name for {len(nameless)} leaves: "
            f"{listed(nameless[:5])}. Choose another dialect of the backbone."
        )
    for name, pieces in parts.items():
        whole[name] = np.concatenate([pieces[i] for i in sorted(pieces)])
    return whole


def _another_size(
    tensor: np.ndarray, path: str, shape: tuple[int, ...], dialects: Sequence[Dialect]
) -> tuple[np.ndarray, str]:
    """A tensor under its leaf path, for other pictures: the axes are ours already."""
    for dialect in dialects if tensor.shape != shape else ():
        named = dialect.name_of(path)
        if named is not None and named[1].layout in ("stem", "positions"):
            row = Row(path, path, named[1].layout)
            return fitted(tensor, shape, row, replace(dialect, theirs=dialect.ours))
    return tensor, ""


def _differs(tensor: np.ndarray, leaf: Any) -> str:
    """Why a tensor cannot be this leaf; empty where it can."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "it is a random key, which is never taken from a file"
    if tensor.shape != leaf.shape:
        return f"its shape is {tensor.shape} in the file and {leaf.shape} in the model"
    both_float = all(jnp.issubdtype(dtype, np.floating) for dtype in (tensor.dtype, leaf.dtype))
    if tensor.dtype != leaf.dtype and not both_float:
        return f"its type is {tensor.dtype} in the file and {leaf.dtype} in the model"
    return ""


def _check_variance(tensors: Tensors, name: str, path: str, row: Row) -> None:
    """No square root is taken of a variance below zero."""
    if row.layout != "variance" and not (row is SAME and VARIANCE.fullmatch(path)):
        return
    tensor = tensors.values[name]
    lowest = np.min(tensor.astype(np.float64), initial=0)
    if lowest < 0:
        raise WeightsError(
            f"{name!r} in {tensors.origin} is a running variance and holds {lowest:.3g}, and a "
            f"variance is never below zero: the file is damaged. Fetch it again."
        )


def _finite(origin: str, name: str, tensor: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is said below
        converted = tensor.astype(dtype)
    if jnp.issubdtype(dtype, np.floating) and not np.isfinite(converted).all():
        raise WeightsError(
            f"{name!r} in {origin} holds a number that is not finite as {dtype}: the file is "
            f"damaged, or it was saved from a run that had diverged."
        )
    return converted


def _conventions(origin: str, dialect: Dialect) -> list[str]:
    """What the file means otherwise than the network; a refusal where that cannot be mended."""
    theirs, ours = dialect.theirs, dialect.ours
    if theirs.padding != ours.padding:
        raise WeightsError(
            f"{origin} is of the kind {dialect.name!r}, which pads convolutions "
            f"{theirs.padding!r}; this network pads {ours.padding!r}, so that its pictures would "
            f"be shifted. Choose a backbone that pads as the file was trained."
        )
    notes = []
    if theirs.norm_momentum != ours.norm_momentum:
        notes.append(
            f"running averages keep {ours.norm_momentum} a step here, {theirs.norm_momentum} where "
            f"the file was made"
        )
    shifted = any(row.layout == "variance" for row in dialect.rows)
    if theirs.norm_eps != ours.norm_eps and not shifted:
        notes.append(
            f"norms add {ours.norm_eps:g} to the variance here, {theirs.norm_eps:g} where the file "
            f"was made"
        )
    return notes
