"""Deviation and effective rank of features: closed forms, and the paper's formula in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.numerics.spread import feature_std, rankme

RNG = np.random.default_rng(0)


def test_features_in_all_directions_are_at_one_and_equal_ones_at_zero():
    assert float(feature_std(jnp.asarray(RNG.normal(size=(4000, 50))))) == pytest.approx(
        1, abs=0.01
    )
    assert float(feature_std(jnp.ones((20, 5)) * jnp.arange(5.0))) == pytest.approx(0, abs=1e-6)


def test_the_length_of_a_feature_does_not_matter():
    features = RNG.normal(size=(30, 4))
    longer = features * RNG.uniform(0.1, 10, (30, 1))
    one, other = (float(feature_std(jnp.asarray(x))) for x in (features, longer))
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_counts_equal_directions(rank):
    basis = np.linalg.qr(RNG.normal(size=(40, 8)))[0]
    features = basis[:, :rank] @ np.linalg.qr(RNG.normal(size=(8, 8)))[0][:rank]
    assert float(rankme(jnp.asarray(features))) == pytest.approx(rank, rel=1e-3)


def test_rankme_is_the_papers_formula():
    features = RNG.normal(size=(50, 12)) * 2.0 ** -np.arange(12)
    values = np.linalg.svd(features, compute_uv=False)
    entropy = 0.0
    for value in values:
        p = value / sum(values) + 1e-7
        entropy -= p * np.log(p)
    assert float(rankme(jnp.asarray(features))) == pytest.approx(np.exp(entropy), rel=1e-4)


def test_features_of_zeros_are_finite():
    assert np.isfinite(float(rankme(jnp.zeros((5, 3)))))
    assert float(feature_std(jnp.zeros((5, 3)))) == 0
