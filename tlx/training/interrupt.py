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
