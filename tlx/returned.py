"""Arrays that a plugin returned, held against its contract.

A wrong shape or kind of thing would fail far from where it was made, or not at all. Everything here
looks at shapes, so it takes arrays and `jax.ShapeDtypeStruct` alike, and says who returned what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.contracts.calls import described, has_returned, where
from tlx.errors import ContractError
from tlx.types import PyTree, Variables


def variables(found: Any, who: str, thing: Any) -> Variables:
    """`found` if it is `Variables` whose leaves are arrays. ContractError for anything else."""
    wanted = "tlx.types.Variables(params, state), with empty dicts where there are none"
    has_returned(who, thing, found, isinstance(found, Variables), wanted)
    arrays(tuple(found), who, thing)
    return found


def arrays(found: Any, who: str, thing: Any) -> PyTree:
    """`found` if it is a pytree whose leaves are arrays. ContractError for anything else."""
    has_returned(who, thing, found, found is not None, "arrays")
    for path, leaf in trees.flat(found).items():
        good = hasattr(leaf, "dtype") and leaf.dtype != np.dtype(object)
        has_returned(who, thing, leaf, good, f"arrays{_at(path)}")
    return found


def rows(found: Any, count: int, who: str, thing: Any) -> Mapping[str, Any]:
    """`found` if it is a mapping of arrays (`count`,...). ContractError for anything else."""
    wanted = "a mapping of arrays by name, each with an entry for every example"
    has_returned(who, thing, found, isinstance(found, Mapping), wanted)
    leading(arrays(found, who, thing), count, who, thing)
    return found


def leading(found: PyTree, count: int, who: str, thing: Any) -> None:
    """ContractError unless every leaf is (`count`,...)."""
    for path, leaf in trees.flat(found).items():
        good = jnp.shape(leaf)[:1] == (count,)
        has_returned(
            who, thing, leaf, good, f"an entry for each of the {count} examples{_at(path)}"
        )


def per_example(found: Any, count: int, who: str, thing: Any) -> None:
    """ContractError unless `found` is one floating number for each example."""
    good = is_floats(found) and found.shape == (count,)
    has_returned(who, thing, found, good, f"one floating number for each of the {count} examples")


def is_floats(found: Any) -> bool:
    """Whether something is an array of floating numbers."""
    return hasattr(found, "dtype") and jnp.issubdtype(found.dtype, jnp.floating)


def alike(found: PyTree, wanted: PyTree, who: str, thing: Any) -> None:
    """ContractError unless both have the same leaves with the same shapes and types."""
    here, there = ({p: described(x) for p, x in trees.flat(t).items()} for t in (found, wanted))
    if here == there and jax.tree.structure(found) == jax.tree.structure(wanted):
        return
    odd = sorted(set(here.items()) ^ set(there.items()))
    path = odd[0][0] if odd else "as a whole"
    raise ContractError(
        f"{who}{where(thing)} has to keep the form of what it was given: {path!r} is "
        f"{there.get(path, 'not there')}, and comes back as {here.get(path, 'nothing')}."
    )


def _at(path: str) -> str:
    return f" at {path!r}" if path else ""
