"""How a check speaks: a claim that does not hold is a sentence about the contract.

Also the comparisons that the checks share. Trees are compared leaf by leaf and the sentence names
the first leaf that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.errors import ContractError
from tlx.types import PyTree


class NotApplicable(Exception):
    """A check has nothing to look at here; the message says why. Shown as a skipped test."""


def claim(holds: Any, sentence: str) -> None:
    """ContractError with `sentence` unless `holds`."""
    if not bool(holds):
        raise ContractError(sentence)


def fail(sentence: str) -> NoReturn:
    """ContractError with `sentence`."""
    raise ContractError(sentence)


def claim_same(seen: PyTree, wanted: PyTree, what: str) -> None:
    """The same tree with the same bits in every leaf."""
    claim_alike(seen, wanted, what)
    for path, (a, b) in _paired(seen, wanted).items():
        a, b = np.asarray(a), np.asarray(b)
        claim(
            a.tobytes() == b.tobytes(),
            f"{what}: the leaf {path!r} differs in {int(np.sum(a != b))} of {a.size} numbers.",
        )


def claim_close(seen: PyTree, wanted: PyTree, what: str, tolerance: float = 1e-4) -> None:
    """The same tree with nearly the same numbers, relative to the largest of a leaf."""
    claim_alike(seen, wanted, what)
    for path, (a, b) in _paired(seen, wanted).items():
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        apart = ~((a == b) | (np.isnan(a) & np.isnan(b)))  # finite or not is another claim
        gap = float(np.max(np.abs(a - b)[apart], initial=0.0))
        allowed = tolerance * max(1.0, float(np.max(np.abs(b), initial=0.0)))
        claim(
            gap <= allowed, f"{what}: the leaf {path!r} differs by {gap:.3g}, over {allowed:.3g}."
        )


def claim_alike(seen: PyTree, wanted: PyTree, what: str) -> None:
    """The same tree with the same shapes and dtypes; also for abstract arrays."""
    a, b = trees.flat(seen), trees.flat(wanted)
    claim(
        jax.tree.structure(seen) == jax.tree.structure(wanted),
        f"{what}: another tree. Missing: {sorted(b.keys() - a.keys())}, "
        f"too many: {sorted(a.keys() - b.keys())}.",
    )
    for path in a:
        one, other = jax.typeof(a[path]), jax.typeof(b[path])
        claim(
            (one.shape, one.dtype) == (other.shape, other.dtype),
            f"{what}: the leaf {path!r} is {one.str_short()} instead of {other.str_short()}.",
        )


def claim_finite(tree: PyTree, what: str) -> None:
    """No leaf holds a NaN or an infinity."""
    for path, leaf in trees.flat(tree).items():
        claim(np.all(np.isfinite(np.asarray(leaf))), f"{what}: {path!r} is not finite everywhere.")


def claim_moves(slope: PyTree, sentence: str) -> None:
    """Some number of a gradient is not zero."""
    claim(any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(slope)), sentence)


def claim_leading(tree: PyTree, batch: int, what: str) -> None:
    """Every leaf has the batch as its leading axis."""
    for path, leaf in trees.flat(tree).items():
        claim(
            leaf.ndim >= 1 and leaf.shape[0] == batch,
            f"{what}: {path!r} has shape {leaf.shape}; its leading axis must be the {batch} "
            f"examples of the batch.",
        )


def claim_plain(tree: PyTree, what: str) -> None:
    """Nested dicts, lists and tuples of arrays, with one unambiguous path per leaf.

    Anything else would not survive checkpoints and weight files, which know leaves by path."""
    _plain(tree, what, "")
    every = [trees.path_of(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)]
    claim(
        len(every) == len(set(every)),
        f"{what}: the leaf path {next((p for p in every if every.count(p) > 1), '')!r} occurs "
        f"twice; a path must name one leaf.",
    )


def claim_value(make: Any, what: str) -> None:
    """Made twice with the same options, a thing equals itself and hashes alike."""
    one, other = make(), make()
    try:
        same = one == other and hash(one) == hash(other)
    except TypeError as e:
        fail(
            f"{what} does not hash ({e}); its fields are its configuration: make it a frozen "
            f"dataclass whose fields hash."
        )
    claim(
        same,
        f"{what} built twice with the same options does not equal itself; its fields are its "
        f"configuration: make it a frozen dataclass.",
    )


def _paired(a: PyTree, b: PyTree) -> dict[str, tuple[Any, Any]]:
    one, other = trees.flat(a), trees.flat(b)
    return {path: (one[path], other[path]) for path in one}


def _plain(node: Any, what: str, path: str) -> None:
    if isinstance(node, Mapping):
        for key, below in node.items():
            claim(isinstance(key, str), f"{what}: the key {key!r} under {path!r} is no string.")
            _plain(below, what, f"{path}/{key}".lstrip("/"))
    elif isinstance(node, list | tuple):
        for number, below in enumerate(node):
            _plain(below, what, f"{path}/{number}".lstrip("/"))
    else:
        dtype = getattr(node, "dtype", None)
        claim(
            dtype is not None and not jnp.issubdtype(dtype, jax.dtypes.extended),
            f"{what}: {path!r} holds a {type(node).__name__}; leaves are arrays of numbers (save "
            f"the data of a random key, not the key).",
        )
