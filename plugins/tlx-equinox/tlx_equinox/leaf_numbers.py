"""An Equinox file has no names: its leaves are known by their numbers in the order of the module.

`equinox.tree_serialise_leaves` writes every array and every number of a tree, one after the other.
What is counted here is the module as it is made, with the first values of its `StateIndex`, and the
pair that `equinox.nn.make_with_state` returns, where these follow behind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tlx.contracts.dialect import FLAX, Dialect, Row

LEAF = "leaves/{}"


def numbered(
    leaves: Mapping[str, Any], params: Collection[str], indices: Sequence[str]
) -> tuple[Dialect, ...]:
    """The dialects of a module with these `leaves` by path, of which `params` are learnt and those
    below `indices` are the values of a `StateIndex`: in place, and behind all others."""
    saved = [path for path in leaves if _is_saved(leaves[path])]

    def is_state(path: str) -> bool:
        return any(path == index or path.startswith(f"{index}/") for index in indices)

    orders = dict.fromkeys((tuple(saved), tuple(sorted(saved, key=is_state))))
    return tuple(_dialect(ordered, leaves, params) for ordered in orders)


def _dialect(ordered: Sequence[str], leaves: Mapping[str, Any], params: Collection[str]) -> Dialect:
    rows, ignored = [], []
    for number, path in enumerate(ordered):
        name = LEAF.format(number)
        if hasattr(leaves[path], "shape"):
            part = "params" if path in params else "state"
            rows.append(Row(name, f"{part}/backbone/{path}"))
        else:
            ignored.append(name)  # a rate, a flag: the module here has its own
    return Dialect("equinox", tuple(rows), FLAX, FLAX, ignored=tuple(ignored), read_only=True)


def _is_saved(leaf: Any) -> bool:
    return hasattr(leaf, "shape") or isinstance(leaf, bool | int | float | complex | np.generic)
