"""Stopping politely: SIGINT and SIGTERM become a question that the loop asks after each step.

A run that is asked to stop saves a checkpoint and says how to go on, instead of dying between
two writes. A second signal ends it at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tlx.devices import hosts
from tlx.errors import ContractError, DataError, DivergedError, Interrupted


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a signal has come. Outside of the main thread, where
    signals cannot be caught, it always says no."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {}

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leaving_on_failure(leave: Callable[[], None]) -> Iterator[None]:
    """What is given, such as a picture or a plugin that fails, ends a run, once it has left what it
    has learnt. Of several processes the others would not take part in that."""
    try:
        yield
    except (DataError, ContractError, DivergedError):
        if not hosts.several():
            leave()
        raise


def interruption(step: int, steps: int) -> Interrupted:
    """What is raised where somebody asked a run to stop."""
    return Interrupted(
        f"Stopped at step {step} of {steps} and saved. Go on with the same command and --resume."
    )


def early_words(patience: int | None, metric: str) -> str:
    """What is said where a run stops early."""
    return (
        f"Stopped early: {patience} evaluations without a better {metric} on the validation split."
    )
