"""The factors on lambda, against their formulas in numpy."""

from typing import get_args

import numpy as np
import pytest

from tlx.run_file.run_config import WeightSchedule
from tlx.weight_schedule import share

PROGRESS = np.linspace(0, 1, 101)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("constant", lambda p: np.ones_like(p)),
        ("warmup", lambda p: np.minimum(10 * p, 1)),
        ("linear", lambda p: 1 - p),
        ("cosine", lambda p: 0.5 * (1 + np.cos(np.pi * p))),
        ("dann", lambda p: np.tanh(5 * p)),  # 2 / (1 + exp(-10 p)) - 1 in another form
    ],
)
def test_follows_its_formula(schedule, formula):
    found = np.asarray([share(schedule, np.float32(p)) for p in PROGRESS])
    np.testing.assert_allclose(found, formula(PROGRESS), atol=1e-6)


@pytest.mark.parametrize("schedule", get_args(WeightSchedule))
def test_stays_between_nothing_and_all_of_lambda(schedule):
    found = np.asarray(share(schedule, PROGRESS.astype(np.float32)))
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.max() > 0.99
