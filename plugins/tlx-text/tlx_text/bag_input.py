"""Texts as numbers of words of a vocabulary, which is learnt from the training texts alone.

The vocabulary is part of the saved model: another one would give every word the row of another one
in a table of embeddings, and nothing would say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, final

import jax
import numpy as np

from tlx.contracts.validation import fitted as fitting
from tlx.errors import ConfigError, DataError, did_you_mean, listed
from tlx_text.words import (
    compiled_pattern,
    most_frequent,
    shared_room,
    split_words,
    typical_length,
)

PADDING, UNKNOWN, SEPARATOR = 0, 1, 2
"""Numbers that are no word's: of padding, of all words that the vocabulary lacks, and of what
stands between the texts of several fields."""
FIRST_WORD = 3
"""The number of the first word of a vocabulary."""
MOST_LENGTH = 4096
"""Words of a text, whatever the data or a file say."""


@final
@dataclass(frozen=True)
class BagInput:
    """Texts as the numbers of their words, (length,), and which of these are there.

    A word is what `pattern` finds in the text, in lower case where `lower`. Of the training texts
    come the `words`: those that are there `min_count` times or oftener, at most `max_words`; and
    the `length`: what `percentile` of the texts do not exceed, at most `max_length`. Longer texts
    are cut at their end; of several fields, between which a separator stands, the longest first.
    The number of a word is its place in `words` after padding, unknown words and the separator."""

    words: tuple[str, ...] | None = None
    length: int | None = None
    pattern: str = r"\w+(?:'\w+)*"
    lower: bool = True
    min_count: int = 1
    max_words: int = 30_000
    percentile: float = 99.0
    max_length: int = 256
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if fault := _fault(self):
            raise ValueError(f"a BagInput is not as it has to be: {fault}")

    @property
    def rows(self) -> int:
        """How many numbers there are: rows of a table of embeddings."""
        return FIRST_WORD + len(self.words or ())

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {word: number for number, word in enumerate(self.words or (), start=FIRST_WORD)}

    def encode(self, *values: Any, name: str) -> dict[str, np.ndarray]:
        """`ids` (length,) int32 and `mask` (length,) bool. Raises DataError for what is no text."""
        length = self.length or self.max_length
        texts = []
        for value in values:
            if not isinstance(value, str):
                raise DataError(f"{name} is a {type(value).__name__}, and has to be a text.")
            texts.append(split_words(value, self.pattern, self.lower))
        room = shared_room(list(map(len, texts)), max(0, length - len(texts) + 1))
        found: list[int] = []
        for place, (text, count) in enumerate(zip(texts, room, strict=True)):
            found += [SEPARATOR] if place else []
            found += [self._numbers.get(word, UNKNOWN) for word in text[:count]]
        found = found[:length]
        ids = np.full(length, PADDING, np.int32)
        ids[: len(found)] = found
        return {"ids": ids, "mask": np.arange(length) < len(found)}

    def prepare(self, arrays: Any) -> Any:
        """As they are: `ids` (B,length) and `mask` (B,length)."""
        return arrays

    def example(self) -> Any:
        """`ids` (1,length) int32 and `mask` (1,length) bool."""
        shape = 1, self.length or self.max_length
        ids, mask = (jax.ShapeDtypeStruct(shape, kind) for kind in (np.int32, np.bool_))
        return {"ids": ids, "mask": mask}

    def fitted(
        self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]
    ) -> BagInput:
        """With words and length of the training texts, where they are not known. Raises DataError
        for texts without words."""
        if self.words is not None and self.length is not None:
            return self
        counts: Counter[str] = Counter()
        lengths = []
        for row in values():
            texts = [split_words(text, self.pattern, self.lower) for text in row]
            for text in texts:
                counts.update(text)
            lengths.append(sum(map(len, texts)) + len(texts) - 1)
        words = self.words
        if words is None:
            words = most_frequent(counts, self.min_count, self.max_words)
        if not words:
            raise DataError(
                f"The training texts hold no word that is there {self.min_count} times or oftener "
                f"(a word is what {self.pattern!r} finds). Lower min_count, or look at the texts."
            )
        length = self.length or typical_length(lengths, self.percentile, self.max_length)
        return replace(self, words=words, length=length)

    def merged(self, backbone: Any, stated: Mapping[str, Any]) -> BagInput:
        """The input that weights were trained with, with another `length` if a run file states one.
        Raises ConfigError for anything else: the vocabulary is that of the weights."""
        known = set(type(self).__dataclass_fields__)
        changeable = {"length"} if self.words is not None else known - {"words"}
        for key in stated:
            if key not in changeable:
                why = "; the vocabulary is that of the weights" if key in known else ""
                raise ConfigError(
                    f"weights.input.{key}: cannot be said of these texts{why}."
                    f"{did_you_mean(key, changeable)} What can: {listed(sorted(changeable))}."
                )
        try:
            return replace(self, **stated)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"weights.input: {error}.") from error

    def assets(self) -> Mapping[str, bytes]:
        """The words, as a list in JSON with one a line."""
        if self.words is None:
            return {}
        return {"words": json.dumps(self.words, ensure_ascii=False, indent=0).encode()}

    def with_assets(self, assets: Mapping[str, bytes]) -> BagInput:
        """With the words of such a list."""
        return replace(self, words=tuple(json.loads(assets["words"])))


def _fault(one: BagInput) -> str:
    for name in ("min_count", "max_words", "max_length", "length"):
        value = getattr(one, name)
        most = MOST_LENGTH if "length" in name else None
        if value is not None and not (
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= (most or value)
        ):
            limit = f" up to {most}" if most else ""
            return f"its {name} is {value!r}, and has to be a whole number from 1{limit}"
    if not 0 < one.percentile <= 100:
        return f"its percentile is {one.percentile!r}, and has to be above 0, 100 at the most"
    words, problems = fitting(tuple[str, ...] | None, one.words, "words")
    if problems or (words is not None and len(set(words)) < len(words)):
        return "its words have to be texts that are all different"
    try:
        compiled_pattern(one.pattern)
    except ValueError as error:
        return str(error)
    return ""
