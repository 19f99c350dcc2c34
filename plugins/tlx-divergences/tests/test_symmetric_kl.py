"""Symmetric KL against the sum of scipy's relative entropies, element by element."""

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.test_util import check_grads
from scipy.special import rel_entr, softmax
from tlx_divergences.symmetric_kl import SymmetricKL

from tlx.errors import ConfigError
from tlx.quantities import asked

LOGITS = arrays.arrays(np.float64, (2, 4, 3), elements=st.floats(-20, 20))
TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0])


@settings(max_examples=20, deadline=None)
@given(LOGITS, TEMPERATURES)
def test_it_is_the_sum_of_both_relative_entropies(logits, temperature):
    p, q = softmax(logits / temperature, -1)
    theirs = temperature**2 * (rel_entr(p, q) + rel_entr(q, p)).sum(-1).mean()
    with jax.enable_x64(True):
        now, then = jnp.asarray(logits)
        ours = float(SymmetricKL(temperature)(outputs=now, source_outputs=then))
        turned = float(SymmetricKL(temperature)(outputs=then, source_outputs=now))
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert ours == pytest.approx(turned, rel=1e-12, abs=1e-15)
    assert ours >= -1e-14


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_equal_probabilities_are_at_zero_with_zero_gradient(shift):
    then = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)) * 4, jnp.float32)
    value, slope = jax.value_and_grad(lambda z: SymmetricKL()(outputs=z, source_outputs=then))(
        then + shift
    )
    assert float(value) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(slope, np.zeros((6, 5)), atol=1e-5)


def test_the_gradient_is_that_of_differences_and_finite_where_models_are_sure():
    with jax.enable_x64(True):
        z, then = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4)))
        value = lambda z: SymmetricKL(2.0)(outputs=z, source_outputs=then)  # noqa: E731
        check_grads(value, (z,), 1, ["rev"])
    sure, other = jnp.asarray([[1e4, 0.0]]), jnp.asarray([[0.0, 1e4]])
    slope = jax.grad(lambda z: SymmetricKL()(outputs=z, source_outputs=other))(sure)
    assert np.isfinite(slope).all()


def test_refusals():
    assert asked(SymmetricKL()) == {"outputs", "source_outputs"}
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="temperature"):
            SymmetricKL(temperature)
    with pytest.raises(ConfigError, match="symmetric_kl compares logits over the same classes"):
        SymmetricKL()(outputs=jnp.zeros((2, 3)), source_outputs=jnp.zeros((2, 4)))
