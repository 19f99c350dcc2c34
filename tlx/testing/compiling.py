"""Programs for checks: compiled without optimisation, and each of them once.

A check runs a function a few times, so compiling is what costs. On the CPU a training pass with
dropout compiles eight times faster this way and gives the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


def quick_jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)` with the CPU backend's optimisation off."""
    level = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=level, **options)


@contextmanager
def compiled_once(folder: Path) -> Iterator[None]:
    """Inside, programs that several runs share are compiled by the first of them, into `folder`,
    and none of them is optimised."""
    wanted = _settings(folder)
    before = {name: jax.config.values[name] for name in wanted}
    _configure(wanted)
    try:
        yield
    finally:
        _configure(before)


def in_environment(folder: Path) -> dict[str, str]:
    """Variables with which another process compiles as within `compiled_once`."""
    return {name.upper(): str(value) for name, value in _settings(folder).items()}


def _settings(folder: Path) -> dict[str, Any]:
    return {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


def _configure(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # else it stays in the folder that it was first opened in
