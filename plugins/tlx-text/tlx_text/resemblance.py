"""Which texts of two sets are the same, and which are nearly so.

Texts are the same if they are so whatever their case, blanks and the form of their characters
(Unicode's NFKC). They are nearly the same by their resemblance: the runs of three words that both
have, as a share of those that either has (Broder 1997, 'On the resemblance and containment of
documents'): other punctuation, a word put in or left out of a longer text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

from tlx.contracts.field import Print

RUN = 3
"""Words of a run, which is called a shingle."""
ALIKE = 0.7
"""The least resemblance of texts that are nearly the same. Of twenty words one may be another."""
COMMON = 200
"""A run that more texts have is not looked for; it counts all the same."""
WORD = re.compile(r"\w+")


def fingerprint(text: str) -> Print:
    """Of a text; one without a letter or a digit shows nothing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    digest = hashlib.sha256(" ".join(folded.split()).encode("utf-8", "surrogatepass"))
    words = WORD.findall(folded)
    return Print(digest.digest(), shingles(words), not words)


def shingles(words: Sequence[str]) -> frozenset[int]:
    """The runs of words, each as a number of 32 bits; of fewer than three words all as one."""
    runs = max(1, len(words) - RUN + 1) if words else 0
    return frozenset(
        crc32(" ".join(words[start : start + RUN]).encode("utf-8", "surrogatepass"))
        for start in range(runs)
    )


def resemblance(one: frozenset[int], other: frozenset[int]) -> float:
    """The share of runs that both have of those that either has; 0 where there are none."""
    together = len(one | other)
    return len(one & other) / together if together else 0.0


def nearly_same(first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
    """Positions in both of texts that are nearly the same; of the second at most one each, and of
    several the one that is most like it."""
    having: defaultdict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(first):
        for run in one.near:
            having[run].append(place)
    found = []
    for place, one in enumerate(second):
        rare = (having[run] for run in one.near if run in having)
        near = {other for places in rare if len(places) <= COMMON for other in places}
        like = ((resemblance(first[other].near, one.near), -other) for other in near)
        best, other = max(like, default=(0.0, 0))
        if best >= ALIKE:
            found.append((-other, place))
    return found
