"""Everything tlx says when something is wrong.

An error is a sentence to the user: what, where, what was allowed, what to do.
All kinds derive from `TlxError`, which the command line prints without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import takewhile


class TlxError(Exception):
    """Something the user can act on; the message is one or more full sentences."""


class ConfigError(TlxError):
    """A run file, an option or a command line argument is wrong."""


class ContractError(TlxError):
    """A plugin does not do what its contract says."""


class PluginError(TlxError):
    """A plugin is missing, broken or claimed twice."""


class TrustError(TlxError):
    """A folder names code that is not run without being trusted."""


class DataError(TlxError):
    """A data source holds something that cannot be trained or tested on."""


class WeightsError(TlxError):
    """A weight file does not fit, is damaged or cannot be read."""


class ScoreError(TlxError):
    """A score has no answer for these features and labels."""


class CheckpointError(TlxError):
    """A checkpoint is missing, damaged or belongs to another run."""


class DivergedError(TlxError):
    """Training produced a number that is not finite."""


class CollapsedError(TlxError):
    """Features that are learnt without labels have become the same for every picture."""


class StudyError(TlxError):
    """Some runs of a study failed; the others are done."""


class HostsError(TlxError):
    """Another process of a run is not there, or no more."""


class MemoryFullError(TlxError):
    """An array does not fit into the memory that there is."""


class Interrupted(TlxError):
    """The run was asked to stop, saved itself and can be resumed."""


class Refused(Exception):
    """What a parser says is wrong with a file: the rest of a sentence that begins with its name.
    Whoever knows the name makes one of the errors above of it."""


_ALIKE = str.maketrans("oil", "011")
"""Letters that a person takes for a digit, or for one another."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest of `known`, or an empty string where none is near.

    Initials are near (`lr` to `learning_rate`), and so is a part of a name (`params` to
    `parameters`). Of several that are, the one that fewest changes lead to; then the one that
    begins most like the word, then one as long as it."""
    typed = word.lower()
    by_lower = {k.lower(): k for k in known}
    for name in by_lower:
        if "".join(part[:1] for part in name.split("_")) == typed != name[:1]:
            return f" Did you mean {by_lower[name]!r}?"
    ranked = []
    for name in difflib.get_close_matches(typed, by_lower, n=12, cutoff=0.6):
        a, b = typed.translate(_ALIKE), name.translate(_ALIKE)
        changes, longer = _changes(a, b), max(len(a), len(b))
        a_part = a in b.split("_") or b in a.split("_") or (len(a) > 2 and b.startswith(a))
        if 2 * changes < longer or a_part:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
            begins = sum(1 for _ in same)
            ranked.append((changes, -begins, abs(len(a) - len(b)), name))
    return f" Did you mean {by_lower[min(ranked)[-1]]!r}?" if ranked else ""


def _changes(a: str, b: str) -> int:
    """Letters to change, add, drop or swap with their neighbour to make `b` of `a`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                least = min(least, above[j - 2] + 1)
            row.append(least)
    return row[-1]


def listed(words: Iterable[str], none: str = "none") -> str:
    """The words in order, separated by commas; `none` where there are none."""
    return ", ".join(words) or none
