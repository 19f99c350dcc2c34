"""A run of a study that fails is reported, and the others run.

What failed is named once more at the end, where the study does not end well: with --resume only
what is missing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tlx.devices import hosts
from tlx.errors import HostsError, Interrupted, StudyError, TlxError


class Failure(NamedTuple):
    """Why a run of a study failed."""

    error: Exception

    @property
    def text(self) -> str:
        """In a sentence."""
        kind = "" if isinstance(self.error, TlxError) else f"{type(self.error).__name__}: "
        return f"{kind}{self.error}"


def attempt(act: Callable[[], Any]) -> Any | Failure:
    """What `act` returns, or why it failed. Whatever ends all runs is raised: a signal, another
    host that has gone, and any failure of one of several hosts, which the others would wait for."""
    try:
        return act()
    except (Interrupted, HostsError):
        raise
    except Exception as error:
        if hosts.several():
            raise
        return Failure(error)


def refuse(failed: Mapping[str, Failure], what: str, of: int) -> None:
    """Raise StudyError with all that failed, where anything has; `what` they are called, and `of`
    how many there are. Where all failed for one reason, that is raised as it is."""
    if not failed:
        return
    if len(failed) == of and len({failure.text for failure in failed.values()}) == 1:
        raise next(iter(failed.values())).error
    each = "".join(f"\n  {name}: {failure.text}" for name, failure in failed.items())
    raise StudyError(
        f"{len(failed)} of {of} {what} failed:{each}\nWhat the others have done is kept. Mend it "
        f"and use --resume: only what failed is trained again."
    ) from next(iter(failed.values())).error
