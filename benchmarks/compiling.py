"""Seconds that jax has spent tracing and compiling, by its own events."""

from __future__ import annotations

from typing import Any

import jax


class Compiling:
    """Listens from when it is made; `seconds` so far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self.seconds += seconds
