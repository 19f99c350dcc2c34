"""Vectors as a kind of field: a fixed number of real numbers, such as measurements of one thing.

A row of a table with categories or holes in it is another kind; all that is said of a vector is
what its numbers are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Print
from tlx.errors import DataError

SHOWN = 8
"""Numbers of a vector that are shown."""


@final
@dataclass(frozen=True)
class Vector:
    """Real numbers (K,), which may be called by the names `numbers`."""

    numbers: tuple[str, ...] = ()
    kind: ClassVar[str] = "vector"

    def read(self, raw: Any, name: str) -> np.ndarray:
        """(K,) as they are, float32 where they are no floats. Raises DataError for what is no
        vector of finite numbers, and for another number of them than there are names."""
        try:
            value = np.asarray(raw)
            value = value if value.dtype.kind == "f" else value.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} is no vector of numbers: {error}.") from error
        if value.ndim != 1 or not value.size:
            raise DataError(f"{name} has the shape {value.shape}; a vector is (K,).")
        if self.numbers and len(value) != len(self.numbers):
            raise DataError(f"{name} has {len(value)} numbers and {len(self.numbers)} names.")
        if not np.isfinite(value).all():
            raise DataError(
                f"{name} has no finite number at place {int(np.argmin(np.isfinite(value)))}. Fill "
                f"it, or take data whose field allows holes, such as the rows of a table."
            )
        return value

    def encode(self, value: Any, name: str) -> np.ndarray:
        """As a target: (K,) float32."""
        return np.asarray(value, np.float32)

    def each(self, given: Any) -> Iterator[tuple[str, np.ndarray]]:
        """One vector (K,), or several: (N,K), or whatever else can be gone through."""
        if isinstance(given, list | tuple):
            one = bool(given) and all(isinstance(number, Real) for number in given)
        else:
            one = isinstance(given, np.ndarray) and given.ndim < 2
        if one:
            yield "The vector", self.read(given, "The vector")
            return
        for number, one in enumerate(given):
            yield f"The vector [{number}]", self.read(one, f"The vector [{number}]")

    def show(self, value: Any) -> str:
        """The first numbers, by their names where they have some."""
        few = [f"{number:.4g}" for number in np.ravel(value)[:SHOWN]]
        if self.numbers:
            few = [f"{name} {one}" for name, one in zip(self.numbers, few, strict=False)]
        return ", ".join(few) + (", …" if np.size(value) > SHOWN else "")

    def fingerprint(self, value: Any) -> Print:
        """A digest of its numbers in single precision."""
        return Print(hashlib.sha256(np.asarray(value, np.float32).tobytes()).digest())

    def nearly_same(self, first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
        """None: how near is near depends on what the numbers are."""
        return []

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[np.ndarray]:
        """So many random vectors of one length."""
        length = len(self.numbers) or 5
        return [rng.normal(size=length).astype(np.float32) for _ in range(count)]
