"""TransRate by loops over determinants."""

import numpy as np
import pytest
from tlx_select.transrate import TransRate

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 40)


def rate(features, epsilon):
    gram = features.T @ features / (len(features) * epsilon)
    return np.linalg.slogdet(np.eye(features.shape[1]) + gram)[1] / 2


@pytest.mark.parametrize(("width", "epsilon"), [(5, 1e-4), (5, 0.1), (60, 1e-4)])
def test_it_is_its_definition(width, epsilon):
    features = RNG.normal(size=(3, width))[LABELS] + RNG.normal(size=(40, width))
    centred = features - features.mean(0)
    within = 0.0
    for k in range(3):
        within += rate(centred[k == LABELS], epsilon) / 3
    wanted = rate(centred, epsilon) - within
    score = TransRate(epsilon)(features=features, labels=LABELS)
    assert score == pytest.approx(wanted, rel=1e-9)


def test_two_points_in_closed_form():
    """f = ±1 by class: R(f) = ½ log(1 + 1/ε), and the same within a class."""
    features = np.where(np.arange(10) % 2, 1.0, -1.0)[:, None]
    assert TransRate()(features=features, labels=np.arange(10) % 2) == pytest.approx(0, abs=1e-12)
