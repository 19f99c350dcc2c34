"""Where the wall time of a run goes, and a trace of a few of its steps.

A clock goes through the run with it. The time of a part that lies inside another one is not the
outer one's, so that all parts and the rest add up to the whole. jax computes while Python goes on:
a clock that measures waits for every step, so that a step is not booked as the wait for the next
batch. One that does not measure does nothing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import jax

Part: TypeAlias = Literal[
    "setup", "input", "compile", "step", "evaluation", "checkpoint", "frozen prefix", "trace",
    "rest",
]  # fmt: skip
"""`setup`: data and weights are read and looked at; `input`: the wait until the next batch is on
the device; `frozen prefix`: computed once, ahead of a phase; `trace`: the profiler itself; `rest`:
what no other part is, such as logging."""
TRACED: tuple[Part, ...] = ("input", "step", "trace")
"""A trace ends when anything else begins."""
CALLS = range(3, 6)
"""Which calls of a program are traced, counted from 1: the first ones are not like the rest."""
COMPILING = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""What jax tells of every program that it compiles, or finds among those that it has kept."""


@final
class Clock:
    """Books seconds since it was made; without a `folder` it only knows how many there were.

    `folder` gets the traces of jax's profiler. To be closed."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._begun = self._booked = time.perf_counter()
        self._seconds: dict[Part, float] = defaultdict(float)
        self._parts: list[Part] = ["rest"]
        self._calls: Counter[Any] = Counter()
        self._tracing = False
        if folder:
            jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def total(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._begun

    def spent(self) -> dict[str, float]:
        """Seconds of every part so far, the largest first, which add up to `total`; empty if
        nothing is measured."""
        if self.folder:
            self._book()
        parts = sorted(self._seconds.items(), key=lambda part: -part[1])
        return {name: round(seconds, 6) for name, seconds in parts}

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """What happens inside is booked as this part, but for parts inside of it."""
        if not self.folder:
            yield
            return
        if name not in TRACED:
            self._trace(False)
        self._book()
        self._parts.append(name)
        try:
            yield
        finally:
            self._book()
            self._parts.pop()

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch; on the device if anything is measured."""
        with self.part("input"):
            return self._there(next(batches))

    def step(self, program: Callable[..., Any], *arguments: Any) -> Any:
        """What a program returns; waited for if anything is measured."""
        if self.folder:
            self._calls[program] += 1
            self._trace(self._calls[program] in CALLS)
        with self.part("step"):
            return self._there(program(*arguments))

    def note(self) -> str:
        """Where the trace is, in a sentence; '' where there is none."""
        self._trace(False)
        if "trace" not in self._seconds:
            return ""
        return f"A trace of a few steps lies in {self.folder}; xprof and ui.perfetto.dev show it."

    def close(self) -> None:
        """Stop listening to jax; harmless where nothing is measured."""
        if self.folder:
            self._trace(False)
            jax.monitoring.unregister_event_duration_listener(self._compiled)
            self.folder = None

    def _there(self, arrays: Any) -> Any:
        return jax.block_until_ready(arrays) if self.folder else arrays

    def _book(self) -> None:
        now = time.perf_counter()
        self._seconds[self._parts[-1]] += now - self._booked
        self._booked = now

    def _compiled(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        """Take from the part what it has spent on compiling."""
        if event in COMPILING:
            self._seconds[self._parts[-1]] -= duration_secs
            self._seconds["compile"] += duration_secs

    def _trace(self, wanted: bool) -> None:
        if wanted == self._tracing or not self.folder:
            return
        self._tracing = wanted
        with self.part("trace"):
            if wanted:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # Python's own calls would be most of the file,
                options.enable_hlo_proto = False  # and so would every program of this process
                jax.profiler.start_trace(self.folder, profiler_options=options)
            else:
                jax.profiler.stop_trace()
