"""CORAL against numpy's covariances, value and gradient against torch's, and closed forms."""

import jax
import numpy as np
import pytest
import torch
from tlx_divergences.coral import Coral

from tlx.quantities import asked

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 4)) @ RNG.normal(size=(4, 4))
Y = RNG.normal(size=(6, 4)) @ RNG.normal(size=(4, 4)) + 3


@jax.jit
def called(x, y):
    return Coral()(features={"pooled": x}, domain_features={"pooled": y})


def test_the_papers_equations():
    """C = (DᵀD − (1ᵀD)ᵀ(1ᵀD) / n) / (n − 1), entry by entry."""
    assert asked(Coral()) == {"features", "domain_features"}

    def covariance(d):
        ones = np.ones((1, len(d)))
        return (d.T @ d - (ones @ d).T @ (ones @ d) / len(d)) / (len(d) - 1)

    apart = covariance(X) - covariance(Y)
    expected = sum(apart[i, j] ** 2 for i in range(4) for j in range(4)) / (4 * 4**2)
    np.testing.assert_allclose(covariance(X), np.cov(X.T), rtol=1e-12)
    with jax.enable_x64(True):
        assert float(called(X, Y)) == pytest.approx(expected, rel=1e-12)
    assert float(called(X.astype("f"), Y.astype("f"))) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_torchs():
    x, y = torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)
    theirs = (torch.cov(x.T) - torch.cov(y.T)).square().sum() / 64
    theirs.backward()
    with jax.enable_x64(True):
        ours, slopes = jax.value_and_grad(called, argnums=(0, 1))(X, Y)
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(slopes[0], x.grad, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(slopes[1], y.grad, rtol=1e-10, atol=1e-12)


def test_a_shift_counts_nothing_and_a_scale_its_closed_form():
    """C of 2x is 4C, so CORAL(x, 2x) = 9 ‖C‖² / 4d²; means do not enter."""
    assert float(called(X, X + 7)) == pytest.approx(0, abs=1e-5)
    expected = 9 * np.square(np.cov(X.T)).sum() / 64
    assert float(called(X, 2 * X + 1)) == pytest.approx(expected, rel=1e-4)
