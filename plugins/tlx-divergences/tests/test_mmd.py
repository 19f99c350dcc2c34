"""MMD against a double loop in float64, scikit-learn's kernels and the closed form of Gaussians."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from tlx_divergences.mmd import MMD

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 4)), RNG.normal(size=(5, 4)) * 1.5 + 0.5


@partial(jax.jit, static_argnums=0)
def called(divergence, x, y):
    return divergence(features={"pooled": x}, domain_features={"pooled": y})


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_a_double_loop(estimator):
    """Gretton et al. 2012, equations 3 and 5, pair by pair."""
    widths = (0.5, 1.0, 3.0)

    def kernel(a, b):
        return np.mean([np.exp(-((a - b) ** 2).sum() / (2 * width**2)) for width in widths])

    def within(z):
        pairs = [
            kernel(z[i], z[j])
            for i in range(len(z))
            for j in range(len(z))
            if estimator == "biased" or i != j
        ]
        return sum(pairs) / len(pairs)

    across = [kernel(a, b) for a in X for b in Y]
    expected = within(X) + within(Y) - 2 * sum(across) / len(across)
    divergence = MMD(estimator=estimator, bandwidths=widths)
    assert asked(divergence) == {"features", "domain_features"}
    with jax.enable_x64(True):
        assert float(called(divergence, X, Y)) == pytest.approx(expected, rel=1e-12)
    single = called(divergence, X.astype("f"), Y.astype("f"))
    assert float(single) == pytest.approx(expected, abs=1e-6)


def test_the_median_heuristic_is_scikit_learns_median_and_carries_no_gradient():
    both = np.concatenate([X, Y])
    squares = euclidean_distances(both, squared=True)[np.triu_indices(12, 1)]
    variances = np.median(squares) * np.asarray([0.25, 0.5, 1, 2, 4])
    gram = np.mean([rbf_kernel(both, gamma=1 / (2 * v)) for v in variances], 0)
    expected = gram[:7, :7].mean() + gram[7:, 7:].mean() - 2 * gram[:7, 7:].mean()
    with jax.enable_x64(True):
        assert float(called(MMD(), X, Y)) == pytest.approx(expected, rel=1e-10)
        fixed = MMD(bandwidths=tuple(np.sqrt(variances)))
        slope, same = (jax.grad(lambda x, d=d: called(d, x, Y))(X) for d in (MMD(), fixed))
        np.testing.assert_allclose(slope, same, atol=1e-12)
        scaled = called(MMD(), 1e3 * X, 1e3 * Y)
        assert float(scaled) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("estimator", "bias"), [("biased", 1 / 3), ("unbiased", 0)])
def test_the_mean_over_many_samples_is_the_closed_form_of_two_gaussians(estimator, bias):
    """E k(s,t) = (σ² / (σ² + 2))^{d/2} exp(−‖μ‖² / 2(σ² + 2)) for N(0,I) and N(μ,I); the biased
    estimator of n examples adds (1 − E k(s,s')) / n on either side."""
    variance, shift, n = 2.0, 0.6, 6
    here = variance / (variance + 2)
    expected = 2 * here * (1 - np.exp(-2 * shift**2 / (2 * (variance + 2))))
    drawn = jax.random.normal(jax.random.key(0), (20000, 2, n, 2))
    values = jax.jit(
        jax.vmap(
            lambda z: called(
                MMD(estimator=estimator, bandwidths=(variance**0.5,)), z[0], z[1] + shift
            )
        )
    )(drawn)
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - expected - bias * (1 - here)) < 4 * error
    assert error < 0.002
    assert (values.min() < 0) == (estimator == "unbiased")


def test_far_from_the_origin_nothing_cancels():
    near = called(MMD(), X.astype("f"), Y.astype("f"))
    far = called(MMD(), (X + 256).astype("f"), (Y + 256).astype("f"))
    assert float(far) == pytest.approx(float(near), rel=1e-4)


def test_refusals():
    with pytest.raises(ConfigError, match="'biased' or 'unbiased'"):
        MMD(estimator="exact")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="above 0"):
        MMD(bandwidths=(1.0, 0.0))
    with pytest.raises(ConfigError, match="no kernel"):
        MMD(multiples=())
    assert jnp.isfinite(called(MMD(bandwidths=(1.0,), multiples=()), X, Y))
