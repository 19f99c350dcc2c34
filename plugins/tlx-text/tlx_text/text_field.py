"""Texts as a kind of field: read from strings and bytes, told apart by their words, shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Print
from tlx.errors import DataError
from tlx_text.resemblance import fingerprint, nearly_same

SAMPLE_WORDS = (
    "a", "bad", "cat", "day", "every", "film", "good", "is", "never", "not", "of", "plot", "the",
    "this", "was", "with",
)  # fmt: skip
"""What samples are made of."""


@final
@dataclass(frozen=True)
class Text:
    """Texts, as strings or as bytes in UTF-8."""

    kind: ClassVar[str] = "text"

    def read(self, raw: Any, name: str) -> str:
        """The text of a string, or of bytes in UTF-8. Raises DataError for what is neither."""
        if isinstance(raw, str):  # NumPy's strings, too
            return str(raw)
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise DataError(
                f"{name} is a {type(raw).__name__}, and has to be a text: a string, or bytes in "
                f"UTF-8."
            )
        try:
            return bytes(raw).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name} is no text in UTF-8: its byte {error.start} is {raw[error.start]:#04x}. "
                f"Save it as UTF-8, or hand over a string."
            ) from error

    def encode(self, value: Any, name: str) -> np.ndarray:
        """Raises DataError: no head compares outputs with a text as it is."""
        raise DataError(
            f"{name} is a text, which cannot be compared with what a head says. Let it be an input "
            f"of the data, or give the target another kind of field."
        )

    def each(self, given: Any) -> Iterator[tuple[str, str]]:
        """One text, or several of any iterable."""
        if isinstance(given, str | bytes | bytearray | memoryview):
            yield "The text", self.read(given, "The text")
            return
        try:
            several = iter(given)
        except TypeError:
            several = iter(())
            self.read(given, "The text")
        for number, one in enumerate(several):
            yield f"The text [{number}]", self.read(one, f"The text [{number}]")

    def show(self, value: Any) -> str:
        """The text."""
        return str(value)

    def fingerprint(self, value: Any) -> Print:
        """A digest of the text whatever its case and blanks, and its runs of words."""
        return fingerprint(value)

    def nearly_same(self, first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
        """Texts that share nearly all their runs of words."""
        return nearly_same(first, second)

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[str]:
        """So many short texts, each with another word in front."""
        lengths = rng.integers(3, 12, count)
        words = [rng.choice(SAMPLE_WORDS, length) for length in lengths]
        return [" ".join((f"text{number}", *some)) for number, some in enumerate(words)]
