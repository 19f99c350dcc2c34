"""The deviation over random halves is that over new pictures, for scores that are no means."""

import numpy as np
import pytest
from tlx_select.h_score import HScore
from tlx_select.logme import LogME
from tlx_select.transrate import TransRate

from tlx.numerics.half_samples import halves

RNG = np.random.default_rng(0)
CENTRES = 0.6 * RNG.normal(size=(4, 16))


def drawn():
    labels = np.arange(160) % 4
    return np.maximum(CENTRES[labels] + RNG.normal(size=(160, 16)), 0), labels


@pytest.mark.parametrize("score", [LogME(), HScore(), TransRate()])
def test_the_deviation_over_halves_is_that_over_new_pictures(score):
    fresh, within = [], []
    for number in range(80):
        features, labels = drawn()
        fresh.append(score(features=features, labels=labels))
        if number < 10:
            values = [
                score(features=features[half], labels=labels[half])
                for half in halves(labels, 20, number)
            ]
            within.append(np.std(values, ddof=1))
    assert 0.75 < np.mean(within) / np.std(fresh, ddof=1) < 1.5
