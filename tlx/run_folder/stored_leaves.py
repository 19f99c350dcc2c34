"""Leaves of a tree as a checkpoint stores them: described, compared, and given back.

A leaf comes back as the kind of thing that it was, an array, a random key or a number; where shapes
or types differ, the first such leaf is named, because Orbax would cast it silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.devices.mesh import put
from tlx.errors import CheckpointError, did_you_mean
from tlx.trees import flat
from tlx.types import PyTree


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
    return _is_key(leaf) or jnp.issubdtype(dtype, np.bool_) or jnp.issubdtype(dtype, np.number)


def _entry(leaf: Any) -> dict[str, Any]:
    """What a leaf must agree in."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def described(tree: PyTree) -> tuple[dict[str, Any], dict[str, Any]]:
    """(leaf path -> what it is, leaf path -> array as Orbax stores it)."""
    leaves, table, arrays = flat(tree), {}, {}
    if len(leaves) != len(jax.tree.leaves(tree)):
        raise CheckpointError("Two leaves of the tree have the same path; rename a key with a '/'.")
    for path, leaf in leaves.items():
        table[path] = _entry(leaf)
        if not _storable(leaf):
            raise CheckpointError(
                f"The leaf {path!r} is a {type(leaf).__name__}, which a checkpoint cannot hold; "
                f"arrays and numbers are allowed."
            )
        if _is_key(leaf):
            table[path]["key"] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        if 0 not in table[path]["shape"]:  # Orbax refuses empty arrays, and they say it all
            arrays[path] = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    return table, arrays


def sound(table: Any) -> bool:
    """Whether this, out of a file, is a table as `described` makes it."""
    return isinstance(table, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and isinstance(entry.get("shape"), list)
        and all(type(size) is int and size >= 0 for size in entry["shape"])
        and isinstance(entry.get("key", ""), str)
        for entry in table.values()
    )


def compare(wanted: Mapping[str, Any], table: Mapping[str, Any], folder: Path) -> None:
    """Raise CheckpointError that names the first leaf in which the two differ."""
    for path, leaf in wanted.items():
        if path not in table:
            raise CheckpointError(
                f"{folder} has no leaf {path!r}, which this run needs.{did_you_mean(path, table)} "
                f"It belongs to a run with other parts."
            )
        entry = _entry(leaf)
        for what in ("shape", "dtype"):
            if entry[what] != table[path][what]:
                raise CheckpointError(
                    f"The leaf {path!r} has {what} {_said(table[path][what])} in {folder}, but "
                    f"{_said(entry[what])} in this run. It belongs to a run with other options."
                )
        if _is_key(leaf) and not _drawn_alike(leaf, table[path].get("key")):
            raise CheckpointError(
                f"The random key {path!r} of {folder} is of another kind than this run's: "
                f"{table[path].get('key')!r}."
            )
    for path in table:
        if path not in wanted:
            raise CheckpointError(
                f"{folder} has a leaf {path!r}, which this run does not have."
                f"{did_you_mean(path, wanted)} It belongs to a run with other parts."
            )


def _drawn_alike(key: Any, name: Any) -> bool:
    """Whether a key draws in the way that has this name."""
    if not isinstance(name, str):
        return False
    try:
        return jax.eval_shape(lambda: jax.random.key(0, impl=name)).dtype == key.dtype
    except ValueError:
        return False


def _said(value: Any) -> str:
    return value if isinstance(value, str) else f"({', '.join(map(str, value))})"


def as_like(like: Any, array: Any, entry: Mapping[str, Any]) -> Any:
    """The stored array as the kind of thing that `like` is; None stands for an empty array."""
    if _is_key(like):
        if array is None:
            empty = jax.random.split(jax.random.key(0, impl=entry["key"]), tuple(entry["shape"]))
            return _placed(empty, like)
        return _placed(jax.random.wrap_key_data(jax.device_put(array), impl=entry["key"]), like)
    if array is None:
        array = np.zeros(entry["shape"], jnp.dtype(entry["dtype"]))
    if isinstance(like, bool | int | float | complex):
        return type(like)(array.item())
    if isinstance(like, np.generic):
        return array[()]
    # `jnp.array` would run a program for each shape.
    return array if isinstance(like, np.ndarray) else _placed(jax.device_put(array), like)


def _placed(array: jax.Array, like: Any) -> jax.Array:
    # An array that was free to move between devices stays so.
    free = isinstance(like, jax.Array) and not like.committed
    sharding = None if free else getattr(like, "sharding", None)
    return array if sharding is None else put(array, sharding)
