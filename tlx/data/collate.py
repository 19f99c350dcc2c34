"""From raw examples to a batch on the host: every value encoded in a fixed shape, then stacked.

What networks are given is encoded as their inputs have it, what is compared with their outputs as
its field has it. The same inputs serve training, evaluation and prediction, so that a value takes
one way everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import numpy as np

from tlx.contracts.calls import called
from tlx.contracts.field import Field, Spatial, Warp
from tlx.contracts.input import Input, Places, Ports
from tlx.data.splits import Subset
from tlx.errors import DataError
from tlx.types import Batch, DataInfo, Geometry, PyTree


class Entry(NamedTuple):
    """An entry of a batch's inputs: the fields of an example that are encoded, and how."""

    name: str
    fields: tuple[str, ...]
    input: Input


@final
@dataclass(frozen=True)
class Collate:
    """Batches of examples: `inputs` are entries, each of one or several fields; `targets` are
    fields by name."""

    inputs: tuple[Entry, ...]
    targets: tuple[tuple[str, Field], ...] = ()

    def __call__(self, subset: Subset, positions: np.ndarray, weight: np.ndarray) -> Batch:
        """The batch of the examples at `positions` (B,) of a subset, with a `weight` (B,); `index`
        (B,) int32 are their numbers in the source's own split.

        Raises DataError for what cannot be encoded and for examples that do not go together."""
        examples = [subset[int(position)] for position in positions]
        index = subset.indices[positions]
        names = [f"of example {number} of {subset.name!r}" for number in index]
        warps = None
        if any(isinstance(field, Spatial) for _, field in self.targets):
            pairs = zip(examples, names, strict=True)
            warps = [place_example(self.inputs, example, name) for example, name in pairs]
        return Batch(
            {e.name: _inputs(e, examples, names, subset.name) for e in self.inputs},
            {n: _targets(n, f, examples, names, subset.name, warps) for n, f in self.targets},
            index.astype(np.int32),
            weight.copy(),
            geometry=_geometry(warps),
        )


def collate_ports(ports: Ports, info: DataInfo | None = None) -> Collate:
    """Batches for a network's ports, with the targets of data."""
    entries = {port.entry: Entry(port.entry, port.fields, port.input) for port in ports}
    targets = tuple((name, info.fields[name]) for name in info.targets) if info else ()
    return Collate(tuple(entries.values()), targets)


def place_example(
    entries: tuple[Entry, ...], example: Mapping[str, Any], name: str = "of the example"
) -> Warp | None:
    """What the inputs of an example do to the plane that its values lie on; None where none of
    them lies on one. Raises DataError where that is not the same for all."""
    found: dict[str, Warp] = {}
    for entry in entries:
        if isinstance(entry.input, Places):
            with called(entry.input, "input", "place"):
                found[entry.name] = entry.input.place(np.shape(example[entry.fields[0]]))
    if not found:
        return None
    (first, warp), *others = found.items()
    for other, its in others:
        same = np.array_equal(warp.matrix, its.matrix)
        if not same or (warp.size, warp.original) != (its.size, its.original):
            raise DataError(
                f"The {first} and the {other} {name} are not of one size, or are brought to "
                f"canvases in different ways, and a target lies on the plane of an image: it "
                f"cannot follow both. Give images of one size for inputs of one canvas."
            )
    return warp


def _geometry(warps: Sequence[Warp | None] | None) -> Geometry | None:
    placed = [warp for warp in warps or () if warp is not None]
    if not placed:
        return None
    matrices = np.stack([warp.matrix for warp in placed]).astype(np.float32)
    return Geometry(matrices, np.asarray([warp.original for warp in placed], np.int32))


def stack_values(values: Sequence[PyTree], what: str) -> PyTree:
    """(B,...) of every leaf. Raises DataError, saying `what` they are, for values that do not go
    together."""

    def stacked(*leaves: np.ndarray) -> np.ndarray:
        if len(kinds := {leaf.dtype for leaf in leaves}) > 1:
            one, other = sorted(map(str, kinds), reverse=True)[:2]
            raise DataError(f"{what} are partly {one} and partly {other}.")
        if len({leaf.shape for leaf in leaves}) > 1:
            raise DataError(f"{what} have different shapes.")
        return np.stack(leaves)

    return jax.tree.map(stacked, *values)


def _inputs(
    entry: Entry, examples: Sequence[Mapping[str, Any]], names: Sequence[str], of: str
) -> PyTree:
    with called(entry.input, "input", "encode"):
        values = [
            entry.input.encode(*(example[f] for f in entry.fields), name=f"The {entry.name} {name}")
            for example, name in zip(examples, names, strict=True)
        ]
    return stack_values(values, f"The {entry.name}s of {of!r}")


def _targets(
    name: str,
    field: Field,
    examples: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    of: str,
    warps: Sequence[Warp | None] | None,
) -> PyTree:
    """(B,...) of every leaf: whole numbers as int32, others as float32. What lies on the plane of
    an image goes where that went."""
    follows = isinstance(field, Spatial)
    with called(field, "field", "place" if follows else "encode"):
        values = [
            field.encode(example[name], f"The {name} {of_one}")
            if warp is None or not isinstance(field, Spatial)
            else field.place(example[name], warp, f"The {name} {of_one}")
            for example, of_one, warp in zip(
                examples, names, warps or [None] * len(names), strict=True
            )
        ]
    return jax.tree.map(_numbers, stack_values(values, f"The {name}s of {of!r}"))


def _numbers(leaf: np.ndarray) -> np.ndarray:
    if leaf.dtype == bool:
        return leaf
    return leaf.astype(np.int32 if np.issubdtype(leaf.dtype, np.integer) else np.float32)
