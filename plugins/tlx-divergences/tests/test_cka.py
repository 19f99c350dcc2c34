"""CKA against the definition of the unbiased estimate as sums over tuples, and its invariances."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.cka import CKA

from tlx.errors import ConfigError
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit


def one(x, y):
    return CKA()(features={"pooled": x}, source_features={"pooled": y})


cka = quick_jit(one)
with_slope = quick_jit(jax.value_and_grad(one))


def drawn(seed, n=8, wide=3, other=5):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, other))
    return y[:, :wide] + rng.normal(size=(n, wide)), y


def unbiased(k, other):
    """HSIC as Song et al. define it: means over tuples of different examples."""
    n = len(k)
    two = np.mean([k[i, j] * other[i, j] for i, j in permutations(range(n), 2)])
    three = np.mean([k[i, j] * other[i, q] for i, j, q in permutations(range(n), 3)])
    four = np.mean([k[i, j] * other[q, r] for i, j, q, r in permutations(range(n), 4)])
    return two + four - 2 * three


def test_it_is_the_ratio_of_means_over_tuples():
    assert asked(CKA()) == {"features", "source_features"}
    with jax.enable_x64(True):
        for n in (4, 5, 7):
            x, y = drawn(n, n)
            k, m = x @ x.T, y @ y.T
            ratio = unbiased(k, m) / np.sqrt(unbiased(k, k) * unbiased(m, m))
            assert float(cka(x, y)) == pytest.approx(1 - ratio, rel=1e-10)


def test_of_many_examples_it_is_the_closed_form_of_the_paper():
    x, y = drawn(0, 3000)
    a, b = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    paper = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    assert float(cka(x, y)) == pytest.approx(1 - paper, abs=2e-3)


def test_unrelated_features_are_at_one_in_the_mean_also_in_small_batches():
    """The biased estimate is near 0.4 below it here."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 4000, 8, 6))
    found = quick_jit(jax.vmap(one))(x, y)
    assert float(found.mean()) == pytest.approx(1, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100.0))
def test_invariances(seed, scale):
    x, y = drawn(seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(x))
    with jax.enable_x64(True):
        value = float(cka(x, y))
        assert 0 <= value <= 2
        assert float(cka(y, x)) == pytest.approx(value, abs=1e-12)
        assert float(cka(scale * x @ turn + 7, y)) == pytest.approx(value, abs=1e-9)
        assert float(cka(x[order], y[order])) == pytest.approx(value, abs=1e-12)
        assert float(cka(x, scale * x @ turn)) == pytest.approx(0, abs=1e-9)


def test_gradient_is_that_of_finite_differences_and_zero_at_the_source():
    x, y = drawn(3)
    with jax.enable_x64(True):
        slope = with_slope(x, y)[1]
        step = 1e-6 * np.random.default_rng(0).normal(size=x.shape)
        risen = float(cka(x + step, y) - cka(x - step, y)) / 2
        assert risen == pytest.approx(float(jnp.vdot(slope, step)), rel=1e-6)
        np.testing.assert_allclose(with_slope(x, x)[1], 0, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 0.1, 1e4])
def test_constant_features_are_like_nothing(size):
    """Of ten, so that their mean is rounded."""
    _, y = drawn(0, 10)
    constant = np.full((10, 3), size)
    for pair in ((constant, y), (y, constant), (constant, constant)):
        value, slope = with_slope(*pair)
        assert float(value) == pytest.approx(1, abs=1e-6)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_size_does_not_matter_in_single_precision(size):
    x, y = drawn(5)
    with jax.enable_x64(True):
        exact = float(cka(x, y))
    found = cka((size * x).astype(np.float32), y.astype(np.float32))
    assert float(found) == pytest.approx(exact, abs=1e-5)


def test_maps_are_flattened_and_several_features_averaged():
    x, y = drawn(2, 8, 4, 5)
    features = {"map": jnp.asarray(x).reshape(8, 2, 2, 1), "pooled": jnp.asarray(x)}
    source = {"deep": jnp.asarray(y), "pooled": jnp.asarray(x)}
    both = CKA(("map", "pooled"), ("deep", "pooled"))(features=features, source_features=source)
    assert float(both) == pytest.approx(float(cka(x, y)) / 2, abs=1e-6)


def test_refusals():
    x, y = drawn(0)
    with pytest.raises(ConfigError, match="takes 4 examples, and this batch has 3"):
        cka(x[:3], y[:3])
    with pytest.raises(ConfigError, match="names none"):
        CKA(())
    with pytest.raises(ConfigError, match="compares 1 features with 2"):
        CKA(("pooled",), ("a", "b"))
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        CKA(("poled",))(features={"pooled": x}, source_features={"pooled": y})
