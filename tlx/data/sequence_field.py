"""Sequences as a kind of field: symbols one after another, or a signal over time.

The symbols of DNA, RNA and proteins are the characters of a text; a signal is one number, or one
for each of several channels, at every step. Sequences may differ in length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Print
from tlx.errors import ConfigError, DataError

SHOWN = 60
"""Symbols of a sequence that are shown."""


@final
@dataclass(frozen=True)
class Sequence:
    """Symbols of an `alphabet` such as 'ACGT' as a text, or a signal (T,C) of `channels`; where
    neither is said, whichever it is."""

    alphabet: str | None = None
    channels: int | None = None
    kind: ClassVar[str] = "sequence"

    def __post_init__(self) -> None:
        if self.alphabet is not None and self.channels is not None:
            raise ConfigError(
                f"A sequence has symbols of an alphabet ({self.alphabet!r}), or channels "
                f"({self.channels}), not both."
            )

    def read(self, raw: Any, name: str) -> str | np.ndarray:
        """A text, or a signal (T,C) float32; one of (T,) has one channel. Raises DataError for
        what is neither, what is empty, and numbers that are not finite."""
        if isinstance(raw, bytes):
            raw = raw.decode("ascii", errors="replace")
        if isinstance(raw, str):
            if self.channels is not None:
                raise DataError(f"{name} is a text; it has to be a signal (T,{self.channels}).")
            if not raw:
                raise DataError(f"{name} is empty.")
            return str(raw)
        if self.alphabet is not None:
            raise DataError(
                f"{name} is a {type(raw).__name__}; it has to be a text of the symbols "
                f"{self.alphabet!r}."
            )
        return _signal(raw, self.channels, name)

    def encode(self, value: Any, name: str) -> np.ndarray:
        """As a target: a signal (T,C). Raises DataError for symbols, whose classes no field of
        this kind has."""
        if isinstance(value, str):
            raise DataError(f"{name} is a text of symbols, which cannot be a target.")
        return value

    def each(self, given: Any) -> Iterator[tuple[str, str | np.ndarray]]:
        """One sequence: a text, numbers in a list, an array (T,) or (T,C); or several: an array
        (N,T,C), a list or whatever else can be gone through."""
        if _is_one(given):
            yield "The sequence", self.read(given, "The sequence")
            return
        try:
            several = enumerate(given)
        except TypeError as error:
            raise DataError(f"A {type(given).__name__} is no sequence: {error}.") from error
        for number, one in several:
            yield f"The sequence [{number}]", self.read(one, f"The sequence [{number}]")

    def show(self, value: Any) -> str:
        """Its first symbols, or what a signal is."""
        if isinstance(value, str):
            return value[:SHOWN] + ("…" if len(value) > SHOWN else "")
        steps, channels = value.shape
        return f"{steps} steps of {channels}, from {value.min():.4g} to {value.max():.4g}"

    def fingerprint(self, value: Any) -> Print:
        """A digest of its symbols or its numbers; it shows nothing where all are the same."""
        if isinstance(value, str):
            return Print(hashlib.sha256(value.encode()).digest(), flat=len(set(value)) == 1)
        digest = hashlib.sha256(f"{value.shape}".encode() + value.tobytes()).digest()
        return Print(digest, flat=bool((value == value[:1]).all()))

    def nearly_same(self, first: Several[Print], second: Several[Print]) -> list[tuple[int, int]]:
        """None: what is related is no copy, and is told by aligning sequences."""
        return []

    def samples(self, rng: np.random.Generator, count: int) -> Several[str | np.ndarray]:
        """So many random sequences of several lengths."""
        lengths = rng.integers(5, 12, count)
        if self.channels is not None:
            return [rng.normal(size=(n, self.channels)).astype(np.float32) for n in lengths]
        symbols = list(self.alphabet or "ACGT")
        return ["".join(rng.choice(symbols, n)) for n in lengths]


def _is_one(given: Any) -> bool:
    if isinstance(given, str | bytes):
        return True
    if isinstance(given, list | tuple):
        return bool(given) and all(isinstance(one, Real) for one in given)
    return isinstance(given, np.ndarray) and given.dtype.kind in "fiub" and given.ndim < 3


def _signal(raw: Any, channels: int | None, name: str) -> np.ndarray:
    try:
        value = np.asarray(raw, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} is neither a text nor a signal of numbers (T,) or (T,C): {error}."
        ) from error
    value = value[:, None] if value.ndim == 1 else value
    if value.ndim != 2 or not value.size:
        raise DataError(f"{name} has the shape {value.shape}; a signal is (T,) or (T,C).")
    if channels is not None and value.shape[1] != channels:
        raise DataError(f"{name} has {value.shape[1]} channels; it has to have {channels}.")
    if not np.isfinite(value).all():
        raise DataError(f"{name} holds numbers that are not finite (NaN or infinity).")
    return value
