"""From raw examples to a batch on the host: every field encoded in a fixed shape, then stacked.

An `Encoder` is how one field is brought to what a network takes, as arrays that can be stacked. The
same encoder serves training, evaluation and prediction, so that a value takes one way everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import jax
import numpy as np

from tlx.data.splits import Subset
from tlx.errors import DataError
from tlx.types import Batch, PyTree


class Encoder(Protocol):
    """One field's way from a raw value to arrays of a fixed shape. A frozen dataclass: equal ones
    give equal arrays."""

    def encode(self, value: Any, name: str) -> PyTree:
        """The arrays of one value; DataError, calling it `name`, for what is none."""
        ...


@final
@dataclass(frozen=True)
class Collate:
    """Batches of examples: `inputs` are names of fields, each with its encoder; `targets` are names
    of fields that are numbers as they are."""

    inputs: tuple[tuple[str, Encoder], ...]
    targets: tuple[str, ...] = ("label",)

    def __call__(self, subset: Subset, positions: np.ndarray, weight: np.ndarray) -> Batch:
        """The batch of the examples at `positions` (B,) of a subset, with a `weight` (B,); `index`
        (B,) int32 are their numbers in the source's own split.

        Raises DataError for what cannot be encoded and for examples that do not go together."""
        examples = [subset[int(position)] for position in positions]
        index, of = subset.indices[positions], subset.name

        def encode_field(field: str, encoder: Encoder) -> PyTree:
            names = (f"The {field} of example {number} of {of!r}" for number in index)
            values = (example[field] for example in examples)
            return _stacked(
                field, of, [encoder.encode(*one) for one in zip(values, names, strict=True)]
            )

        targets = {field: [np.asarray(one[field]) for one in examples] for field in self.targets}
        return Batch(
            {field: encode_field(field, encoder) for field, encoder in self.inputs},
            {field: _numbers(field, of, values) for field, values in targets.items()},
            index.astype(np.int32),
            weight.copy(),
        )


def _stacked(field: str, of: str, values: Sequence[PyTree]) -> PyTree:
    """(B,...) of every leaf."""

    def stacked(*leaves: np.ndarray) -> np.ndarray:
        if len(kinds := {leaf.dtype for leaf in leaves}) > 1:
            one, other = sorted(map(str, kinds), reverse=True)[:2]
            raise DataError(f"The {field}s of {of!r} are partly {one} and partly {other}.")
        return np.stack(leaves)

    return jax.tree.map(stacked, *values)


def _numbers(field: str, of: str, values: Sequence[np.ndarray]) -> np.ndarray:
    """(B,...): whole numbers as int32, others as float32."""
    try:
        stacked = np.stack(values)
    except ValueError as error:
        raise DataError(f"The {field}s of {of!r} have different shapes.") from error
    return stacked.astype(np.int32 if np.issubdtype(stacked.dtype, np.integer) else np.float32)
