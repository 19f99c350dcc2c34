"""Where in a file a network is: what stands before its names, and which dialect they are in.

Trainers lay names of their own around a network's (`module.`, `model.encoder.`, `_orig_mod.`), and
some keep two of it. The prefix is found from the file: it is the one behind which most leaves are
named. Where several are as good, the numbers decide nothing, and the user is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx import trees
from tlx.contracts.dialect import FLAX, Dialect, Row
from tlx.errors import WeightsError, did_you_mean, listed
from tlx.weights.layouts import fitted

SAME = Row("", "")
"""The row of a tensor under its leaf path."""
TREE = Dialect("", ())
"""What a file speaks whose names are leaf paths."""
_ASIDE = re.compile(r"ema|avg|averaged?|swa|polyak|opt|optim|optimizers?|mu|nu|exp")
"""What the parts of a prefix say before averages of a network, and before an optimizer's."""


class Place(NamedTuple):
    """A network in a file: its `prefix`, up to the last separator, and its `dialect`; `fills` are
    the leaf paths that are named there, of which `body` are of the backbone."""

    prefix: str
    dialect: Dialect
    fills: frozenset[str] = frozenset()

    @property
    def body(self) -> int:
        """How many leaves of the backbone are named there."""
        return sum(not is_head(path) for path in self.fills)

    def bare(self, name: str) -> str | None:
        """The network's own name for a tensor; None for one that stands elsewhere."""
        return name.removeprefix(self.prefix) if name.startswith(self.prefix) else None

    def leaves(self, name: str) -> tuple[tuple[str, Row], ...]:
        """The leaf paths that a tensor fills, each with its row.

        A head may stand further out than the body: `backbone.layer1...` beside `fc.weight`."""
        inner = self.bare(name)
        found = () if inner is None else self.dialect.leaves(inner)
        outer = (name[len(p) :] for p in outwards(self.prefix) if name.startswith(p))
        for rest in () if found else outer:
            heads = [(path, row) for path, row in self.dialect.leaves(rest) if is_head(path)]
            if heads:
                return tuple(heads)
        return found


def places_of(name: str, wanted: Mapping[str, Any], place: Place) -> tuple[tuple[str, Row], ...]:
    """The leaf paths of a tensor, which may itself have the name of one."""
    return ((name, SAME),) if name in wanted else place.leaves(name)


def is_head(path: str) -> bool:
    """Whether a leaf path is one of a head."""
    return trees.part(path) == "head"


def fills_head(name: str, place: Place) -> bool:
    """Whether a tensor is one of the head's."""
    return any(map(is_head, (name, *(path for path, _ in place.leaves(name)))))


def cuts(name: str) -> Iterator[int]:
    """Where what stands before a network's names may end."""
    yield 0
    yield from (at + 1 for at, letter in enumerate(name) if letter in "./")


def outwards(prefix: str) -> Iterator[str]:
    """The shorter prefixes, the nearest one first: `a.b.` has `a.` and the empty one."""
    yield from (prefix[:at] for at in reversed([*cuts(prefix)]) if at < len(prefix))


def find_places(
    names: Iterable[str], wanted: Mapping[str, Any], dialects: Sequence[Dialect]
) -> list[Place]:
    """Every place where a leaf is named, wanted or a head's, the one with most leaves of the body
    first, then that with most of a head; of equals the shortest prefix and the first dialect."""
    hits: dict[tuple[int, str], set[str]] = {}
    for name in names:
        for number, dialect in enumerate(dialects):
            for at in cuts(name):
                for path, _ in dialect.leaves(name[at:]):
                    if path in wanted or is_head(path):
                        hits.setdefault((number, name[:at]), set()).add(path)
    ordered = sorted(hits, key=lambda one: (len(one[1]), one[0]))
    found = [Place(prefix, dialects[n], frozenset(hits[n, prefix])) for n, prefix in ordered]
    return sorted(found, key=_counts, reverse=True)


def find_place(
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, Any],
    dialects: Sequence[Dialect],
    prefix: str = "",
    origin: str = "the file",
) -> Place:
    """Where the network is; names that are leaf paths are taken first, then those of a dialect,
    then what its own framework calls its parameters.

    `prefix` chooses among several, with or without the separator behind it. Raises WeightsError
    where nothing of the network stands behind it, and where two places hold different numbers for
    as many leaves."""
    found = [Place("", TREE, own)] if (own := frozenset(tensors.keys() & wanted.keys())) else []
    found += find_places(tensors, wanted, dialects)
    if not any(place.body for place in found):
        found = find_places(tensors, wanted, _trees(wanted)) or found
    if prefix:
        behind = [place for place in found if place.prefix.rstrip("./") == prefix.rstrip("./")]
        if not behind:
            most = max((place.body for place in found), default=0)
            likely = (place.prefix for place in found if 2 * place.body >= most)
            known = dict.fromkeys(filter(None, likely))
            raise WeightsError(
                f"Nothing of this backbone stands behind the prefix {prefix!r} in {origin}."
                f"{did_you_mean(prefix, known)} There are {listed(list(known)[:8], 'no prefixes')}."
            )
        return max(behind, key=_counts)
    if not found:
        return Place("", next(iter(dialects), TREE))
    best = max(found, key=_counts)
    alike = [place for place in found if _counts(place) == _counts(best)]
    return _chosen(alike, tensors, wanted, origin)


def fits(place: Place, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> bool:
    """Whether what is named at a place has the shapes of the backbone's leaves."""
    return all(
        has_shape(tensor, wanted[path], row, place.dialect)
        for name, tensor in tensors.items()
        if name.startswith(place.prefix)
        for path, row in place.dialect.leaves(name[len(place.prefix) :])
        if path in wanted and not is_head(path)
    )


def _counts(place: Place) -> tuple[int, int]:
    return place.body, len(place.fills)


def _chosen(
    alike: Sequence[Place],
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, Any],
    origin: str,
) -> Place:
    """The one that is meant of places that name as many leaves."""
    first: dict[str, Place] = {}
    for place in alike:
        other = first.setdefault(place.prefix, place)
        if other is not place and fits(place, tensors, wanted) > fits(other, tensors, wanted):
            first[place.prefix] = place
    body = sum(not is_head(path) for path in wanted)
    if "" in first or len(first) == 1 or 2 * alike[0].body < body:
        return first.get("", first[alike[0].prefix])
    fitting = [p for p in first.values() if fits(p, tensors, wanted)] or [*first.values()]
    plain = [p for p in fitting if not is_aside(p.prefix)] or fitting
    if all(_same_numbers(tensors, plain[0].prefix, other.prefix) for other in plain[1:]):
        return plain[0]
    shown = listed(repr(place.prefix) for place in plain[:8])
    raise WeightsError(
        f"{origin} holds this backbone {len(plain)} times, with different numbers: behind {shown}. "
        f'Say which one is meant: [weights] prefix = "{plain[0].prefix}".'
    )


def is_aside(prefix: str) -> bool:
    """Whether a prefix is that of an average of a network, or of what an optimizer keeps of it."""
    return any(_ASIDE.fullmatch(word) for word in re.split(r"[./_]+", prefix.lower()))


def _same_numbers(tensors: Mapping[str, np.ndarray], one: str, other: str) -> bool:
    """Whether a trainer has the same module under two names."""
    behind = [name for name in tensors if name.startswith(one)]
    return all(
        (twin := tensors.get(other + name[len(one) :])) is not None
        and np.array_equal(tensors[name], twin)
        for name in behind
    )


def has_shape(tensor: np.ndarray, leaf: Any, row: Row, dialect: Dialect) -> bool:
    """Whether a tensor can be a leaf; a zero without memory stands for its numbers."""
    empty = np.broadcast_to(np.float32(0), tensor.shape)
    return fitted(empty, tuple(leaf.shape), row, dialect)[0].shape == tuple(leaf.shape)


def _trees(wanted: Mapping[str, Any]) -> tuple[Dialect, ...]:
    """What a backbone's framework calls its variables, joined by `/` or `.`: parameters and state
    as one tree, with `params` before the one (Flax), or `params` and `state` before both."""
    below = [(p.split("/", 2)[0], p.split("/", 2)[2], p) for p in wanted if not is_head(p)]
    found = []
    for before in ({}, {"params": "params/"}, {"params": "params/", "state": "state/"}):
        rows: list[Row] = []
        for part, rest, path in below:
            name = before.get(part, "") + rest
            rows += [Row(one, path) for one in dict.fromkeys((name, name.replace("/", ".")))]
        found.append(Dialect("", tuple(rows), theirs=FLAX))
    return tuple(found)
