"""Half-samples: their deviation is that of a number over new pictures."""

import numpy as np
import pytest

from tlx.numerics.half_samples import half_width, halves

RNG = np.random.default_rng(0)


def test_each_half_is_half_of_every_class_without_repeats():
    labels = np.repeat([0, 1, 2], [40, 11, 1])
    for half in halves(labels, 30, 0):
        assert len(set(half)) == len(half)
        counts = np.bincount(labels[half])
        assert (counts[0], counts[2]) == (20, 1)
        assert counts[1] in (5, 6)


def test_the_same_seed_gives_the_same_halves():
    labels = np.arange(30) % 3
    one, again, other = (halves(labels, 3, seed) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_deviation_of_a_mean_is_its_standard_error():
    values = RNG.normal(size=400)
    found = half_width([values[half].mean() for half in halves(np.zeros(400), 4000, 0)])
    assert found == pytest.approx(1.96 * values.std(ddof=1) / 20, rel=0.05)


def test_a_difference_that_is_the_same_everywhere_has_no_width():
    terms = RNG.normal(size=100)
    both = [(terms[h].mean(), (terms[h] + 0.1).mean()) for h in halves(np.arange(100) % 2, 20, 0)]
    assert half_width([a - b for a, b in both]) == pytest.approx(0, abs=1e-12)
    assert half_width([a for a, _ in both]) > 0.1


def test_too_few_answers_give_no_interval():
    assert half_width([1.0]) is None
    assert half_width([1.0, 2.0, np.nan, np.nan, np.nan]) is None
    assert half_width([1.0, 2.0, 3.0, np.nan]) == pytest.approx(1.96)
