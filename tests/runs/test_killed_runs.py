"""Runs that are killed at random moments, on files that rot, end bit by bit as any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed_runs.py")


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_runs_end_as_one_that_nobody_disturbed(tmp_path, kills):
    # In a process of its own: it forks after importing and before jax starts its threads.
    told = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(kills), "12"],
        capture_output=True,
        text=True,
        timeout=300 + 60 * kills,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["kills"] == kills
    assert found["damaged"] > 0, "no kill was followed by damage, so nothing was tried"
    assert found["finished"] > 0
    assert (found["failed"], found["different"]) == (0, 0)
    # The control: a manager that trusts its files.
    assert found["careless"]["failed"] + found["careless"]["different"] > 0
