"""What the divergences between two domains have in common: nothing at equal samples, no order, no
side that comes first, a finite gradient at the edges, a sentence for what cannot be compared."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from tlx_divergences.coral import Coral
from tlx_divergences.dann import Dann
from tlx_divergences.mmd import MMD
from tlx_divergences.sinkhorn import Sinkhorn
from tlx_divergences.sliced_wasserstein import SlicedWasserstein

from tlx.errors import ConfigError
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit

DISTANCES = [
    MMD(),
    MMD(bandwidths=(0.7, 3.0)),
    Coral(),
    Sinkhorn(),
    SlicedWasserstein(projections=8),
]
NEED_TWO = [Coral(), MMD(estimator="unbiased")]
EVERY = [*DISTANCES, MMD(estimator="unbiased"), Dann()]
SIZES = st.sampled_from([(4, 4), (6, 3)])
OWN = {
    "layer_0": {"kernel": np.linspace(-1, 1, 300, dtype="f").reshape(3, 100), "bias": np.ones(100)},
    "layer_1": {"kernel": np.linspace(1, -2, 100, dtype="f").reshape(100, 1), "bias": np.ones(1)},
}


def called(divergence, x, y):
    """The divergence of the feature `pooled`, x here and y in the other domain."""
    words = {
        "features": {"pooled": jnp.asarray(x)},
        "domain_features": {"pooled": jnp.asarray(y)},
        "rng": jax.random.key(3),
        "progress": jnp.float32(0.5),
        "own": OWN,
    }
    return divergence(**{word: words[word] for word in asked(divergence)})


def drawn(seed, n, m):
    """Two samples (n,3) and (m,3) that differ in mean and spread."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)).astype("f"), (2 * rng.normal(size=(m, 3)) + 1).astype("f")


value_and_slopes = quick_jit(jax.value_and_grad(called, (1, 2)), static_argnums=0)


@pytest.mark.parametrize("divergence", DISTANCES, ids=repr)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), sizes=SIZES)
def test_a_distance_is_zero_at_equal_samples_positive_elsewhere_and_symmetric(
    divergence, seed, sizes
):
    x, y = drawn(seed, *sizes)
    zero, slopes = value_and_slopes(divergence, x, np.random.default_rng(seed).permutation(x))
    assert float(zero) == pytest.approx(0, abs=2e-5)
    for slope in slopes:
        np.testing.assert_allclose(slope, np.zeros_like(x), atol=2e-4)
    there, _ = value_and_slopes(divergence, x, y)
    back, _ = value_and_slopes(divergence, y, x)
    assert float(there) > 1e-4
    assert float(back) == pytest.approx(float(there), rel=1e-3)


@pytest.mark.parametrize("divergence", EVERY, ids=repr)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), sizes=SIZES)
def test_the_order_within_a_batch_does_not_matter(divergence, seed, sizes):
    x, y = drawn(seed, *sizes)
    value, (slope, _) = value_and_slopes(divergence, x, y)
    order = np.random.default_rng(seed).permutation(len(x))
    again, (moved, _) = value_and_slopes(divergence, x[order], y[::-1].copy())
    assert float(again) == pytest.approx(float(value), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(moved, slope[order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "divergence", [MMD(bandwidths=(1.5,)), Sinkhorn(), SlicedWasserstein(projections=8), Dann()]
)
def test_a_sample_twice_over_is_the_same_sample(divergence):
    x, y = drawn(0, 4, 4)
    once, _ = value_and_slopes(divergence, x, y)
    twice, _ = value_and_slopes(divergence, np.concatenate([x, x]), y)
    assert float(twice) == pytest.approx(float(once), rel=1e-4)


@pytest.mark.parametrize("divergence", EVERY, ids=repr)
def test_value_and_gradient_are_finite_at_the_edges(divergence):
    least = 2 if divergence in NEED_TWO else 1
    x, y = drawn(0, 4, 4)
    for here, there in (
        (x[:least], y[:least]),
        (x[:least], y),
        (np.zeros((4, 3), "f"), np.zeros((4, 3), "f")),
        (np.full((4, 3), 1e3, "f"), np.full((4, 3), 1e3, "f")),
        (x, np.repeat(x[:1], 4, 0)),
        (1e-12 * x, 1e-12 * y),
        (1e4 * x, 1e4 * y),
        (x, y + 1e4),
    ):
        value, slopes = value_and_slopes(divergence, here, there)
        assert np.isfinite(value)
        for slope in slopes:
            assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    "divergence",
    [
        MMD(bandwidths=(0.7, 3.0)),
        MMD(bandwidths=(2.0,), estimator="unbiased"),
        Coral(),
        SlicedWasserstein(projections=8),
    ],
    ids=repr,
)
def test_the_gradient_is_that_of_finite_differences(divergence):
    with jax.enable_x64(True):
        x, y = (sample.astype(np.float64) for sample in drawn(1, 5, 4))
        check_grads(jax.jit(partial(called, divergence)), (x, y), 1, ["rev"], rtol=1e-6)


@pytest.mark.parametrize("divergence", EVERY, ids=repr)
def test_positions_are_averaged_and_half_precision_is_raised(divergence):
    x, y = drawn(2, 6, 3)
    value, _ = value_and_slopes(divergence, x, y)
    around = np.asarray([-1.0, 1, 2, -2], "f").reshape(1, 2, 2, 1)
    spread = x[:, None, None] + around, y[:, None, None] + around
    assert float(value_and_slopes(divergence, *spread)[0]) == pytest.approx(float(value), rel=1e-4)
    half, _ = value_and_slopes(divergence, x.astype(jnp.bfloat16), y.astype(jnp.bfloat16))
    assert half.dtype == jnp.float32
    assert float(half) == pytest.approx(float(value), rel=0.05, abs=0.02)


@pytest.mark.parametrize("divergence", EVERY, ids=repr)
def test_refusals(divergence):
    x, y = drawn(0, 4, 4)
    with pytest.raises(ConfigError, match="channel by channel"):
        called(divergence, x, y[:, :2])
    with pytest.raises(ConfigError, match="one vector an example"):
        called(divergence, x[0], y)
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        called(replace(divergence, feature="poled"), x, y)
    if divergence in NEED_TWO:
        with pytest.raises(ConfigError, match="2 examples or more"):
            called(divergence, x, y[:1])
