"""What a tensor is that no leaf took: a part of the network that is missing here, or none.

A file that has all leaves of a network and more is often another network: one with another
attention, a norm more, or deeper. A tensor within the names of the network is such a sign; another
task's head, a decoder, an average or an optimizer's state beside it is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from tlx import trees
from tlx.errors import did_you_mean
from tlx.weights.places import TREE, Place, cuts, fills_head

BESIDE = re.compile(
    r"(heads?|fcs?|classif\w*|logits?|predict\w*|pred|project\w*|proj|proto\w*|last|output\w*|lm"
    r"|dense|linear|decod\w*|aux\w*|pooler|mask\w*|queue\w*|memory|bank|center\w*|text\w*"
    r"|ema|swa|averaged?|teacher|student|momentum|target|optim\w*|opt|adam\w*|sgd|scheduler?s?"
    r"|scaler|loss\w*|criterion|metrics?|steps?|epochs?|iter\w*|rngs?|seed\w*|hyper\w*|training)\d*"
)
"""Words in the names of what stands beside a network: heads of tasks, what pre-training alone needs
and what a trainer keeps for itself."""
PREDICTS = "cls"
"""What BERT's and its followers' files call the head of their pre-training, beside `cls_token`."""
_COLLECTION = re.compile(r"(params|batch_stats|state)[./]")
_SLOT = re.compile(r"[_.](ema|exp_avg\w*|momentum\w*|averaged?)$")


class Leftover(NamedTuple):
    """Why a tensor was left over, and which `part` of the network it is: 'backbone' where it has
    to have a leaf, 'head', or '' where it is no part of it."""

    part: str
    why: str


class Claimed(NamedTuple):
    """What of a file the backbone took: the network's own names, the scopes around them, the
    outermost of these that are numbered, and what stands before `copies` of the network."""

    names: frozenset[str]
    scopes: frozenset[str]
    stems: frozenset[str]
    copies: tuple[str, ...]


def claimed(place: Place, names: Collection[str], every: Collection[str]) -> Claimed:
    """By the `names` of the tensors that became leaves of the backbone, of `every` one there is."""
    bare = frozenset(one for name in names if (one := _own(place, name)) is not None)
    scopes = frozenset(one[: at - 1] for one in bare for at in cuts(one) if at)
    tops = (re.split(r"[./]", one, maxsplit=1)[0] for one in bare)
    stems = frozenset(stem for top in tops if (stem := _stem(top)) != top)
    again = Counter(
        one[:at]
        for name in every
        if (one := _own(place, name)) is not None
        for at in cuts(one)
        if at and one[at:] in bare
    )
    copies = tuple(prefix for prefix, count in again.items() if 2 * count >= len(bare))
    return Claimed(bare, scopes, stems, copies)


def leftover(
    name: str, tensor: np.ndarray, place: Place, taken: Claimed, wanted: Mapping[str, Any]
) -> Leftover:
    """What a tensor is that no leaf took."""
    paths = [path for path, _ in place.leaves(name)]
    if fills_head(name, place):
        return Leftover("head", _no_leaf(name, paths, wanted))
    bare = _own(place, name)
    if bare is None:
        return Leftover("", f"it stands beside the network, which is behind {place.prefix!r}")
    if tensor.dtype.kind in "biuSUO":
        return Leftover("", "it holds no numbers that are learnt")
    if place.dialect is TREE:
        inside = trees.part(name) == "backbone"
        return Leftover("backbone" if inside else "", _no_leaf(name, [name], wanted))
    if paths:
        return Leftover("backbone", _no_leaf(name, paths, wanted))
    return _by_scope(bare, taken)


def _by_scope(bare: str, taken: Claimed) -> Leftover:
    """By where a name stands that means nothing here."""
    outer = [bare[: at - 1] for at in cuts(bare) if at]
    if _SLOT.sub("", bare) in taken.names or not taken.names.isdisjoint(outer):
        return Leftover("", "what a trainer keeps of a tensor, or its average")
    if around := [scope for scope in outer if scope in taken.scopes]:
        return Leftover("backbone", f"it is a part of {around[-1]!r}, and has no place here")
    if copy := next(filter(bare.startswith, taken.copies), ""):
        return Leftover("", f"it is of another copy of the network, behind {copy!r}")
    top = outer[0] if outer else bare
    words = re.split(r"[_\-]+", _words(top))
    beside = top == PREDICTS or any(map(BESIDE.fullmatch, words))
    if beside and _stem(top) not in taken.stems:
        return Leftover("", "not a part of this network")
    return Leftover("backbone", "it stands among the layers of the network, and has no place here")


def _own(place: Place, name: str) -> str | None:
    """The network's own name for a tensor, without the collection of variables it is in."""
    bare = place.bare(name)
    return bare if place.dialect.name or bare is None else _COLLECTION.sub("", bare, count=1)


def _no_leaf(name: str, paths: Collection[str], wanted: Mapping[str, Any]) -> str:
    path = next(iter(paths), name)
    renamed = "" if path == name else f" {path!r}"
    return f"the model has no such leaf{renamed}.{did_you_mean(path, wanted)}"


def _stem(top: str) -> str:
    """`layer` of `layer4`, `dense` of `dense_2`."""
    return re.sub(r"[_\-]?\d+$", "", top)


def _words(top: str) -> str:
    """`aux_logits` of `AuxLogits`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", top).lower()
