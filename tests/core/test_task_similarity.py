"""Measures of likeness against loops over their definitions, scipy and POT."""

import itertools

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cosine

from tlx.selection.task_similarity import linear_cka, mmd, sliced_wasserstein, task_distance

RNG = np.random.default_rng(0)


def test_cka_of_the_same_features_turned_and_scaled_is_one():
    features = RNG.normal(size=(30, 5))
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert linear_cka(features, 3 * features @ turn + 1) == pytest.approx(1)
    assert linear_cka(features, np.ones((30, 2))) == 0


def test_cka_of_unrelated_features_is_about_zero():
    found = [linear_cka(*RNG.normal(size=(2, 20, 300))) for _ in range(20)]
    assert abs(np.mean(found)) < 0.1


def test_cka_is_its_u_statistic():
    """HSIC as the mean over all quadruples of different pictures (Song et al. 2012)."""
    one, other = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))

    def hsic(k, m):
        terms = [
            k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
            for i, j, q, r in itertools.permutations(range(6), 4)
        ]
        return np.mean(terms)

    k, m = one @ one.T, other @ other.T
    wanted = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert linear_cka(one, other) == pytest.approx(wanted, rel=1e-9)


def test_mmd_is_its_definition():
    one, other = RNG.normal(size=(7, 3)), RNG.normal(1, 2, size=(9, 3))
    both = np.concatenate([one, other])
    pairs = list(itertools.combinations(range(16), 2))
    median = np.median([np.sum((both[i] - both[j]) ** 2) for i, j in pairs])

    def mean(a, b, same):
        values = [
            np.exp(-np.sum((x - y) ** 2) / median)
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if not (same and i == j)
        ]
        return np.mean(values)

    wanted = mean(one, one, True) + mean(other, other, True) - 2 * mean(one, other, False)
    assert mmd(one, other) == pytest.approx(wanted, rel=1e-9)
    assert mmd(np.zeros((4, 2)), np.zeros((5, 2))) == 0


@pytest.mark.parametrize("sizes", [(40, 40), (40, 25)])
def test_sliced_wasserstein_is_pots(sizes):
    one, other = RNG.normal(size=(sizes[0], 4)), RNG.normal(0.5, 2, size=(sizes[1], 4))
    lines = np.random.default_rng(3).normal(size=(4, 256))
    lines /= np.linalg.norm(lines, axis=0)
    wanted = ot.sliced_wasserstein_distance(one, other, projections=lines)
    assert sliced_wasserstein(one, other, seed=3) == pytest.approx(wanted, rel=1e-6)


def test_task_distance_is_scipys_cosine_of_shares():
    a, b = RNG.gamma(1.0, size=(2, 20))
    assert task_distance(a, b) == pytest.approx(cosine(a / (a + b), b / (a + b)))
    assert task_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert task_distance(np.zeros(3), np.zeros(3)) == 0
