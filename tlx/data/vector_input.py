"""How a network wants a vector: standardised by the training rows, as one array of a fixed length.

Mean and standard deviation are learnt of the training rows unless they came with weights; they
are applied on the device, so that two networks with other ones share what the host gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.data.standardisation import column_moments
from tlx.errors import ContractError, DataError

UNSAID = 4
"""The length of a vector that is only there to be looked at, where nobody says one."""


@final
@dataclass(frozen=True)
class VectorInput:
    """Vectors (K,); those of several fields are joined. `(x - mean) / std`, both (K,), which the
    training rows say where they are None, unless they are not to `standardise`."""

    length: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    standardise: bool = True
    kind: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if numbers is not None and len(numbers) != (self.length or len(numbers)):
                raise ContractError(
                    f"A VectorInput of the length {self.length} has {len(numbers)} numbers as its "
                    f"{name}."
                )
        if self.std is not None and min(self.std, default=1.0) <= 0:
            raise ContractError(f"The std of a VectorInput is {self.std}: numbers above 0.")

    def encode(self, *values: Any, name: str) -> np.ndarray:
        """(K,) float32. Raises DataError for another length."""
        found = np.concatenate([np.asarray(value, np.float32) for value in values])
        if self.length is not None and len(found) != self.length:
            raise DataError(f"{name} has {len(found)} numbers; the network takes {self.length}.")
        return found

    def prepare(self, arrays: Array) -> Array:
        """(B,K), standardised."""
        if self.mean is None or self.std is None:
            return jnp.asarray(arrays)
        return (arrays - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)

    def example(self) -> Any:
        """(1,K) float32."""
        return jax.ShapeDtypeStruct((1, self.length or len(self.mean or ()) or UNSAID), np.float32)

    def fitted(
        self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]
    ) -> VectorInput:
        """With the length, the mean and the standard deviation of the training rows, unless it has
        them."""
        if self.length is not None and (self.mean is not None or not self.standardise):
            return self
        rows = (np.concatenate([np.asarray(v, np.float64) for v in each]) for each in values())
        mean, std = column_moments((row[None] for row in rows), "The vectors that are trained on")
        if self.length not in (None, len(mean)):
            raise DataError(
                f"The vectors have {len(mean)} numbers, and the network takes {self.length}."
            )
        if self.mean is not None or not self.standardise:
            return replace(self, length=len(mean))
        return replace(self, length=len(mean), mean=mean, std=std)

    def reading(self, other: Any) -> VectorInput | None:
        """Itself, of vectors of the same length, whatever they are standardised by."""
        same = isinstance(other, VectorInput) and self.length in (None, other.length)
        return self if same else None
