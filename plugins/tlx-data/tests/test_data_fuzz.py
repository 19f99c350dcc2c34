"""Mutated data sets: many by hand (`-m fuzz`), some of the same with every run."""

from pathlib import Path

import pytest

from tlx.testing.fuzzing import survived

HERE = Path(__file__).parent
PROGRAMS = {"data": (400, 20_000), "layouts": (100, 5_000), "tables": (100, 6_000)}
SECONDS = {"layouts": 10.0}
"""For one input, where that is a whole folder of pictures; 2.65 were seen beside other work."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_mutated_data(name, tmp_path):
    program, count = HERE / f"fuzz_{name}.py", PROGRAMS[name][0]
    survived(program, tmp_path, count, seed=0, seconds=SECONDS.get(name, 2))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PROGRAMS)
def test_much_mutated_data(name, tmp_path):
    program, count = HERE / f"fuzz_{name}.py", PROGRAMS[name][1]
    survived(program, tmp_path, count, seed=1, seconds=SECONDS.get(name, 2))
