"""From texts to words, and from the words of many texts to a vocabulary.

A vocabulary is the words that come often enough, the most frequent first and those that are as
frequent in order of their letters, so that it is the same whatever the order of the texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression. Raises ValueError for what is none, and for one that may find the
    empty text, which is no word."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    if found.groups:
        raise ValueError(f"the pattern {pattern!r} has a group; write it as (?:...)")
    if found.fullmatch(""):
        raise ValueError(f"the pattern {pattern!r} finds words without a letter")
    return found


def split_words(text: str, pattern: str, lower: bool) -> list[str]:
    """The words of a text in its order, of which Unicode's composed form (NFKC) is taken, in lower
    case where `lower`."""
    text = unicodedata.normalize("NFKC", text)
    return compiled_pattern(pattern).findall(text.lower() if lower else text)


def most_frequent(counts: Counter[str], least: int, most: int) -> tuple[str, ...]:
    """The words that come `least` times or oftener, `most` of them."""
    often = [(-count, word) for word, count in counts.items() if count >= least]
    return tuple(word for _, word in sorted(often)[:most])


def typical_length(lengths: Iterable[int], percentile: float, most: int) -> int:
    """What `percentile` of texts do not exceed, from 1 to `most`."""
    counted = np.fromiter(lengths, np.int64)
    found = np.percentile(counted, percentile, method="higher") if counted.size else 1
    return int(np.clip(found, 1, most))


def shared_room(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each of several texts finds room beside the others: the longest are cut first,
    to lengths that differ by one at most."""
    if sum(lengths) <= room:
        return list(lengths)
    level = max(most for most in range(room + 1) if sum(min(n, most) for n in lengths) <= room)
    found = [min(length, level) for length in lengths]
    left = room - sum(found)
    for place, length in enumerate(lengths):
        if length > level and left:
            found[place], left = level + 1, left - 1
    return found
