"""Mutated data sets: many by hand (`-m fuzz`), some of the same with every run."""

from pathlib import Path

import pytest

from tlx.testing.fuzzing import survived

HERE = Path(__file__).parent
PROGRAMS = {"data": (400, 20_000), "layouts": (100, 5_000), "tables": (100, 6_000)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_mutated_data(name, tmp_path):
    survived(HERE / f"fuzz_{name}.py", tmp_path, PROGRAMS[name][0], seed=0)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PROGRAMS)
def test_much_mutated_data(name, tmp_path):
    survived(HERE / f"fuzz_{name}.py", tmp_path, PROGRAMS[name][1], seed=1)
