"""Mutated data sets: many by hand (`-m fuzz`), some of the same with every run."""

from pathlib import Path

import pytest

from tlx.testing.fuzzing import survived

PROGRAM = Path(__file__).with_name("fuzz_data.py")


def test_mutated_data(tmp_path):
    survived(PROGRAM, tmp_path, 400, seed=0)


@pytest.mark.fuzz
def test_much_mutated_data(tmp_path):
    survived(PROGRAM, tmp_path, 20_000, seed=1)
