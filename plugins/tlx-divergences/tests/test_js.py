"""Jensen-Shannon against scipy's distance, squared."""

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.test_util import check_grads
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from tlx_divergences.js import js

from tlx.errors import ConfigError
from tlx.quantities import asked

LOGITS = arrays.arrays(np.float64, (2, 4, 3), elements=st.floats(-20, 20))


@settings(max_examples=20, deadline=None)
@given(LOGITS)
def test_it_is_the_square_of_scipys_distance_symmetric_and_bounded(logits):
    now, then = logits
    with jax.enable_x64(True):
        ours = float(js(outputs=jnp.asarray(now), source_outputs=jnp.asarray(then)))
        turned = float(js(outputs=jnp.asarray(then), source_outputs=jnp.asarray(now)))
    with np.errstate(invalid="ignore"):  # scipy takes the root of what rounding left below zero
        theirs = np.nan_to_num(jensenshannon(softmax(now, -1), softmax(then, -1), axis=-1)) ** 2
    assert ours == pytest.approx(theirs.mean(), abs=1e-10)
    assert ours == pytest.approx(turned, abs=1e-15)
    assert -1e-15 <= ours <= np.log(2) + 1e-15


def test_predictions_without_a_common_class_are_ln_2_apart():
    sides = jnp.asarray([[1e4, 0.0, 0.0]]), jnp.asarray([[0.0, 1e4, 0.0]])
    value, slope = jax.value_and_grad(lambda z: js(outputs=z, source_outputs=sides[1]))(sides[0])
    assert float(value) == pytest.approx(np.log(2), rel=1e-6)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_equal_probabilities_are_at_zero_with_zero_gradient(shift):
    then = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)) * 4, jnp.float32)
    value, slope = jax.value_and_grad(lambda z: js(outputs=z, source_outputs=then))(then + shift)
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(slope, np.zeros((6, 5)), atol=1e-6)


def test_the_gradient_is_that_of_differences():
    with jax.enable_x64(True):
        z, then = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4)))
        check_grads(lambda z: js(outputs=z, source_outputs=then), (z,), 1, ["rev"])


def test_refusals():
    assert asked(js) == {"outputs", "source_outputs"}
    with pytest.raises(ConfigError, match=r"js compares logits over the same classes.*\(2, 4\)"):
        js(outputs=jnp.zeros((2, 3)), source_outputs=jnp.zeros((2, 4)))
