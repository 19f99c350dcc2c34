"""Runs that are killed at random moments, on files that rot, end bit by bit as any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed_runs.py")


@pytest.fixture
def killed(tmp_path):
    def killed(kills, *how):
        # In a process of its own: it forks after importing and before jax starts its threads.
        told = subprocess.run(
            [
                sys.executable,
                Path(__file__).with_name("killed_runs.py"),
                tmp_path,
                str(kills),
                *how,
            ],
            capture_output=True,
            text=True,
            timeout=300 + 60 * kills,
            check=False,
        )
        assert told.returncode == 0, told.stderr[-3000:]
        found = json.loads(told.stdout.splitlines()[-1])
        print(found)
        return found

    return killed


def undisturbed(found, kills):
    assert found["kills"] == kills
    assert found["damaged"] > 0, "no kill was followed by damage, so nothing was tried"
    assert found["finished"] > 0
    assert (found["failed"], found["different"]) == (0, 0)


def test_a_few_kills(killed):
    undisturbed(killed(5), 5)


@pytest.mark.slow
def test_a_hundred_kills(killed):
    undisturbed(killed(100), 100)


@pytest.mark.slow
def test_the_harness_notices_a_manager_that_trusts_its_files(killed):
    found = killed(10, "careless")
    assert found["failed"] + found["different"] > 0
