"""Task2Vec's distance by scipy's cosine."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from tlx_select.task2vec import task2vec

RNG = np.random.default_rng(0)


def test_it_is_the_normalised_cosine_distance():
    a, b = RNG.gamma(1.0, size=(2, 40))
    wanted = -cosine(a / (a + b), b / (a + b))
    assert task2vec(task_embedding=a, source_task_embedding=b) == pytest.approx(wanted, rel=1e-12)
    assert task2vec(task_embedding=b, source_task_embedding=a) == pytest.approx(wanted, rel=1e-12)


def test_the_same_task_is_nearest_and_other_filters_are_farthest():
    a = RNG.gamma(1.0, size=40)
    assert task2vec(task_embedding=a, source_task_embedding=a) == pytest.approx(0, abs=1e-12)
    halves = np.repeat([1.0, 0.0], 20), np.repeat([0.0, 1.0], 20)
    apart = task2vec(task_embedding=halves[0], source_task_embedding=halves[1])
    assert apart == pytest.approx(-1)
