"""A pytest plugin: what tests compile is not optimised, and compiled once for all of them.

Tests compile more than they compute. `-p tlx.testing.quick_programs` makes a folder of compiled
programs that all workers of a session share, and the processes that their tests start; programs are
as precise as optimised ones, up to rounding. A test of speed has no place in a test suite. What jax
remembers of a file's tests is forgotten after it: a worker that keeps everything grows to
gigabytes, and gets slower.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import jax
import pytest

from tlx.testing.compiling import compiled_once, in_environment

FLAG = "--xla_cpu_use_fusion_emitters=false"
"""Without optimisation, the CPU's older code generator takes half the time."""
NO_FLAG_SINCE = (0, 11)
"""Versions of jax: an unknown flag ends the process."""


def pytest_configure() -> None:
    """Before the first device is asked for, when jax reads the flags."""
    gc.set_threshold(50_000, 20, 50)  # tracing makes millions of objects, few of them garbage
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags and jax.__version_info__ < NO_FLAG_SINCE:
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}".strip()


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs() -> Iterator[None]:
    """For one file after the other; what is compiled stays in the session's folder."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def quick_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the whole session, and for the processes that its tests start."""
    base = tmp_path_factory.getbasetemp()
    # A worker of pytest-xdist has a folder of its own in the session's.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    with compiled_once(folder), pytest.MonkeyPatch.context() as patch:
        for name, value in in_environment(folder).items():
            patch.setenv(name, value)
        yield
