"""How a network wants a sequence: of a fixed length, symbols one-hot, signals standardised.

Shorter sequences are padded behind and a mask says where they end; longer ones are cut behind.
The alphabet, the length, and a signal's mean and standard deviation are learnt of the training
rows where nobody says them. A symbol that is not in the alphabet is all zeros.
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

UNSAID = 32
"""The length of a sequence that is only there to be looked at, where nobody says one."""
UNKNOWN = -1
"""The number of a symbol that is not in the alphabet."""


@final
@dataclass(frozen=True)
class SequenceInput:
    """Sequences of `length` steps: symbols of an `alphabet` one-hot (T,K), or signals (T,C) of
    `channels` as `(x - mean) / std`, both (C,), unless they are not to `standardise`."""

    alphabet: str | None = None
    length: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    standardise: bool = True
    kind: ClassVar[str] = "sequence"

    def __post_init__(self) -> None:
        if self.alphabet is not None and self.channels is not None:
            raise ContractError(
                f"A SequenceInput has symbols ({self.alphabet!r}) or channels ({self.channels}), "
                f"not both."
            )
        if self.alphabet is not None and len(set(self.alphabet)) != len(self.alphabet):
            raise ContractError(f"The alphabet {self.alphabet!r} has a symbol twice.")

    def encode(self, *values: Any, name: str) -> dict[str, np.ndarray]:
        """`values`: the numbers of symbols (T,) int16 or a signal (T,C) float32; `mask` (T,): where
        the sequence is. Raises DataError for a value of the other form."""
        found = self._numbered(values[0], name)
        length = self.length or len(found)
        padded = np.zeros((length, *found.shape[1:]), found.dtype)
        padded[: len(found)] = found[:length]
        return {"values": padded, "mask": np.arange(length) < len(found)}

    def _numbered(self, value: Any, name: str) -> np.ndarray:
        """(T,) int16 of symbols, (T,C) float32 of a signal."""
        if isinstance(value, str):
            if self.alphabet is None:
                raise DataError(f"{name} is a text, and the network takes a signal.")
            return np.asarray([self.alphabet.find(symbol) for symbol in value], np.int16)
        if self.alphabet is not None:
            raise DataError(f"{name} is a signal, and the network takes symbols.")
        found = np.asarray(value, np.float32)
        if self.channels is not None and found.shape[1] != self.channels:
            raise DataError(
                f"{name} has {found.shape[1]} channels, and the network takes {self.channels}."
            )
        return found

    def prepare(self, arrays: Any) -> dict[str, Array]:
        """`values` (B,T,K) float32, zeros where `mask` (B,T) is not."""
        values, mask = arrays["values"], arrays["mask"]
        if self.alphabet is not None:
            values = jax.nn.one_hot(values, len(self.alphabet))  # all zeros of UNKNOWN
        elif self.mean is not None and self.std is not None:
            mean, std = jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.std, jnp.float32)
            values = (values - mean) / std
        return {"values": values * mask[..., None], "mask": mask}

    def example(self) -> Any:
        """Of one example, (1,...)."""
        length = self.length or UNSAID
        of = jax.ShapeDtypeStruct
        if self.alphabet is not None:
            values = of((1, length), np.int16)
        else:
            values = of((1, length, self.channels or 1), np.float32)
        return {"values": values, "mask": of((1, length), np.bool_)}

    def fitted(
        self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]
    ) -> SequenceInput:
        """With what it lacks of the training rows: the length of the longest, the alphabet or the
        channels, the mean and standard deviation. What the field says of these comes first."""
        one = self._stated(fields[0])
        symbols, longest, text = set[str](), 0, False
        for value, *_ in values():
            longest, text = max(longest, len(value)), isinstance(value, str)
            if one.alphabet is None and isinstance(value, str):
                symbols |= set(value)
        if longest == 0:
            raise DataError("There is no sequence to train on.")
        one = replace(one, length=one.length or longest)
        if text:
            if one.channels is not None:
                raise DataError(
                    f"The sequences are texts, and the network takes signals of {one.channels} "
                    f"channels. Give its backbone an alphabet."
                )
            return replace(one, alphabet=one.alphabet or "".join(sorted(symbols)))
        if one.alphabet is not None:
            raise DataError(
                f"The sequences are signals, and the network takes symbols of {one.alphabet!r}."
            )
        if one.channels is not None and (one.mean is not None or not one.standardise):
            return one
        signals = (value for value, *_ in values())
        mean, std = column_moments(signals, "The steps of the signals")
        if one.channels not in (None, len(mean)):
            raise DataError(
                f"The signals have {len(mean)} channels, and the network takes {one.channels}."
            )
        one = replace(one, channels=len(mean))
        return replace(one, mean=mean, std=std) if one.standardise and one.mean is None else one

    def _stated(self, field: Any) -> SequenceInput:
        """With what a field says of its values."""
        if self.alphabet is not None or self.channels is not None:
            return self
        alphabet, channels = getattr(field, "alphabet", None), getattr(field, "channels", None)
        return replace(self, alphabet=alphabet, channels=channels)

    def reading(self, other: Any) -> SequenceInput | None:
        """The same for sequences that another input gives: of the same alphabet and the same
        length, or of signals of the same channels, however standardised."""
        if not isinstance(other, SequenceInput):
            return None
        same = all(
            getattr(self, name) in (None, getattr(other, name)) for name in ("alphabet", "channels")
        )
        if not same or self.length not in (None, other.length):
            return None
        return replace(self, alphabet=other.alphabet, channels=other.channels, length=other.length)

    def warnings(self, values: Sequence[Any], *, pretrained: bool) -> tuple[str, ...]:
        """Of a few sequences: those that are cut, and symbols that are unknown."""
        found = []
        if self.length and (long := sum(len(value) > self.length for value in values)):
            found.append(
                f"{long} of {len(values)} sequences that were looked at are longer than "
                f"{self.length} steps and are cut there."
            )
        texts = [value for value in values if isinstance(value, str)]
        strange = sorted({*"".join(texts)} - {*(self.alphabet or "")}) if self.alphabet else []
        if strange:
            found.append(
                f"The symbols {', '.join(map(repr, strange))} are not in the alphabet "
                f"{self.alphabet!r}: they are zeros to the network."
            )
        return tuple(found)
