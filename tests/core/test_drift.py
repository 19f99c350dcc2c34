"""Drift, CKA and KL, against closed forms, torch and the definition of HSIC by hand."""

import numpy as np
import pytest
import torch

from tlx.numerics.drift import cka, kl, relative_l2


def test_relative_l2_by_hand():
    before = {"a/x": np.array([3.0, 4.0]), "a/y": np.zeros(2), "b/x": np.zeros(3)}
    after = {"a/x": np.array([3.0, 5.0]), "a/y": np.array([2.0, 2.0]), "b/x": np.zeros(3)}
    found = relative_l2(before, after, lambda path: (path[0],))
    assert found == {"a": pytest.approx(3 / 5), "b": 0.0}
    after["b/x"] = np.ones(3)
    assert relative_l2(before, after, lambda path: (path[0],))["b"] == np.inf
    whole = relative_l2(before, {**before, "a/x": 2 * before["a/x"]}, lambda path: ("all", path[0]))
    assert whole == {"all": pytest.approx(1.0), "a": pytest.approx(1.0), "b": 0.0}


def hsic(k, m):
    """HSIC_1 of Song et al. 2012, as they write it."""
    n, ones = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    total = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))


def test_cka_is_the_ratio_of_unbiased_hsic():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)) + 3, rng.normal(size=(20, 7))
    y[:, :3] += x[:, :3]
    k, m = x @ x.T, y @ y.T
    assert cka(x, y) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def test_cka_does_not_see_rotations_scales_or_shifts_and_knows_the_unrelated():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert cka(x, 7 * x @ rotation + 2) == pytest.approx(1.0)
    unrelated = [cka(rng.normal(size=(50, 400)), rng.normal(size=(50, 400))) for _ in range(20)]
    assert abs(np.mean(unrelated)) < 0.02
    assert cka(x, np.full((100, 3), 0.1)) is None
    assert cka(x[:3], x[:3]) is None


def test_kl_is_torchs():
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=(2, 9, 4)) * 5
    then, now = (torch.log_softmax(torch.tensor(x), 1) for x in (before, after))
    expected = torch.nn.functional.kl_div(now, then, reduction="batchmean", log_target=True)
    assert kl(before, after) == pytest.approx(float(expected))
    assert kl(before, before + 3) == pytest.approx(0, abs=1e-12)
