"""How long a phase will take, said after its first steps.

The first call of a program is not like the rest, so the clock runs over the few after it; the
device is waited for at both ends, once in a phase.
"""

from __future__ import annotations

import time
from typing import Any, final

import jax

from tlx.reporting.wording import duration

FEW = 3
"""Steps that are measured."""
LEAST = 20.0
"""Seconds; what takes less is over before anybody has read how long it takes."""


@final
class Pace:
    """Follows the first steps of a phase that goes from step `start` to `stop`."""

    def __init__(self, name: str, start: int, stop: int) -> None:
        self._name, self._start, self._stop = name, start, stop
        self._known: tuple[int, float] | None = None
        self._said = False

    def after(self, number: int, metrics: Any) -> str:
        """What is said once `number` steps of the run are done, of which the last gave `metrics`;
        '' for nothing."""
        if self._said or number == self._start:
            return ""
        if self._known is None:
            jax.block_until_ready(metrics)
            self._known = number, time.perf_counter()
            return ""
        first, since = self._known
        if number - first < FEW:
            return ""
        self._said = True
        jax.block_until_ready(metrics)
        left, each = self._stop - number, (time.perf_counter() - since) / (number - first)
        if left * each < LEAST:
            return ""
        return (
            f"About {duration(left * each)} to go for {left:,} more steps of {self._name} "
            f"({each:.2g} s each), and what the evaluations between them take."
        )
