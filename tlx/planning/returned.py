"""What a plugin returned, held against its contract where a run is assembled.

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
from tlx.contracts.calls import where
from tlx.errors import ContractError
from tlx.protocols import Finished, Finishes
from tlx.types import PyTree, Variables


def variables(found: Any, who: str, thing: Any) -> Variables:
    """`found` if it is `Variables` whose leaves are arrays. ContractError for anything else."""
    if not isinstance(found, Variables):
        raise ContractError(
            f"{who}{where(thing)} has to return tlx.types.Variables(params, state), with empty "
            f"dicts where there are none, and it returns {described(found)}."
        )
    arrays(tuple(found), who, thing)
    return found


def arrays(found: Any, who: str, thing: Any) -> PyTree:
    """`found` if it is a pytree whose leaves are arrays. ContractError for anything else."""
    if found is None:
        raise ContractError(f"{who}{where(thing)} returns nothing (None); it has to return arrays.")
    for path, leaf in trees.flat(found).items():
        if not hasattr(leaf, "dtype") or getattr(leaf, "dtype", None) == np.dtype(object):
            at = f" at {path!r}" if path else ""
            raise ContractError(
                f"{who}{where(thing)} has to return arrays, and{at} there is {described(leaf)}."
            )
    return found


def rows(found: Any, count: int, who: str, thing: Any) -> Mapping[str, Any]:
    """`found` if it is a mapping of arrays (`count`,...). ContractError for anything else."""
    if not isinstance(found, Mapping):
        raise ContractError(
            f"{who}{where(thing)} has to return a mapping of arrays by name, each with an entry "
            f"for every example, and it returns {described(found)}."
        )
    leading(arrays(found, who, thing), count, who, thing)
    return found


def finished(found: Any, like: Variables, strategy: Finishes) -> Finished:
    """`found` if it is `Finished` with variables of the form of `like`. ContractError else."""
    who, thing = f"`finish` of the strategy {type(strategy).__name__}", strategy.finish
    if not isinstance(found, Finished):
        raise ContractError(
            f"{who}{where(thing)} has to return tlx.protocols.Finished, and it returns "
            f"{described(found)}."
        )
    alike(tuple(found.variables), tuple(like), who, thing)
    return found


def leading(found: PyTree, count: int, who: str, thing: Any) -> None:
    """ContractError unless every leaf is (`count`,...)."""
    for path, leaf in trees.flat(found).items():
        if leaf.ndim < 1 or leaf.shape[0] != count:
            at = f" at {path!r}" if path else ""
            raise ContractError(
                f"{who}{where(thing)} has to return an entry for each of the {count} examples, and"
                f"{at} there is {described(leaf)}."
            )


def per_example(found: Any, count: int, who: str, thing: Any) -> None:
    """ContractError unless `found` is one floating number for each example."""
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    if shape != (count,) or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ContractError(
            f"{who}{where(thing)} has to return one floating number for each of the {count} "
            f"examples, ({count},), and it returns {described(found)}."
        )


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


def described(thing: Any) -> str:
    """What something is, in a few words: `float32[4,3]`, a tuple, None."""
    if thing is None:
        return "None"
    if hasattr(thing, "dtype") and hasattr(thing, "shape"):
        return f"{thing.dtype}[{','.join(map(str, thing.shape))}]"
    return f"a {type(thing).__name__}"
