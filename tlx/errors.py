"""Everything tlx says when something is wrong.

An error is a sentence to the user: what, where, what was allowed, what to do.
All kinds derive from `TlxError`, which the command line prints without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class Interrupted(TlxError):
    """The run was asked to stop, saved itself and can be resumed."""


class Refused(Exception):
    """What a parser says is wrong with a file: the rest of a sentence that begins with its name.
    Whoever knows the name makes one of the errors above of it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest of `known`, or an empty string. Initials are near:
    `lr` to `learning_rate`."""
    by_lower = {k.lower(): k for k in known}
    near = [k for k in by_lower if "".join(p[:1] for p in k.split("_")) == word.lower() != k[:1]]
    near += difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""


def listed(words: Iterable[str], none: str = "none") -> str:
    """The words in order, separated by commas; `none` where there are none."""
    return ", ".join(words) or none
