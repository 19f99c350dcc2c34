"""The README's first command, run once a session for every test that looks at what it left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Ran(NamedTuple):
    """The folder that it was started in, and what it printed."""

    folder: Path
    output: str


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`tlx run examples/digits.toml`, as a user types it."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(EXAMPLES, folder / "examples")
    tlx = Path(sys.executable).with_name("tlx")
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [tlx, "run", "examples/digits.toml"],
        cwd=folder,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Ran(folder, done.stdout)
