"""Leaf paths, globs, partition and merge.

A leaf path is `jax.tree_util.keystr(path, simple=True, separator="/")`: one string for masks,
weight matching and checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax

from tlx.errors import ConfigError, did_you_mean
from tlx.types import PyTree


class Abstract(NamedTuple):
    """A tree of shapes that hashes, so that what is found by tracing is found once."""

    tree: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @property
    def value(self) -> PyTree:
        """The tree, with `jax.ShapeDtypeStruct` leaves."""
        return jax.tree.unflatten(self.tree, self.leaves)


def abstract(tree: PyTree) -> Abstract:
    """The shapes of a tree of arrays."""
    leaves, form = jax.tree.flatten(tree)
    return Abstract(form, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))


def path_of(keys: Any) -> str:
    """The leaf path of a jax key path."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def paths(tree: PyTree) -> PyTree:
    """The same tree with every leaf replaced by its path."""
    return jax.tree_util.tree_map_with_path(lambda keys, _: path_of(keys), tree)


def part(path: str) -> str:
    """'backbone' of `params/backbone/stem/conv/kernel`; '' of what is no leaf path of a model."""
    top, *below = path.split("/")
    return below[0] if top in ("params", "state") and len(below) > 1 else ""


def flat(tree: PyTree) -> dict[str, Any]:
    """Leaf path -> leaf, in tree order."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflat(like: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """The structure of `like` with leaves taken by path."""
    return jax.tree.map(lambda path: leaves[path], paths(like))


def matching(tree: PyTree, pattern: str) -> list[str]:
    """Leaf paths that a glob matches (`*` crosses `/`). Matching nothing is a ConfigError."""
    every = list(flat(tree))
    found = [path for path in every if fnmatchcase(path, pattern)]
    if not found:
        raise ConfigError(
            f"The leaf pattern {pattern!r} matches no parameter.{did_you_mean(pattern, every)} "
            f"There are {len(every)} leaves, such as {', '.join(every[:3])}."
        )
    return found


def partition(tree: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """(leaves where the mask is True, the others), each with None in the other's place."""
    chosen = jax.tree.map(lambda leaf, m: leaf if m else None, tree, mask)
    others = jax.tree.map(lambda leaf, m: None if m else leaf, tree, mask)
    return chosen, others


def merge(chosen: PyTree, others: PyTree) -> PyTree:
    """Undo `partition`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, chosen, others, is_leaf=lambda leaf: leaf is None
    )


def groups(tree: PyTree, group: Callable[[str], str]) -> PyTree:
    """The same tree with every leaf replaced by its group's name."""
    return jax.tree.map(group, paths(tree))


def count(tree: PyTree) -> int:
    """How many numbers a tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
