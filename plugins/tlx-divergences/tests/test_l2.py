"""L2 against torch's weight decay and scikit-learn's ridge regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from tlx_divergences.l2 import l2

from tlx.quantities import asked

few = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


def network(seed):
    rng = np.random.default_rng(seed)
    return {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4)}}


@given(seed=seeds, rate=st.floats(1e-3, 1))
@few
def test_a_step_is_torchs_weight_decay(seed, rate):
    """SGD on ½ ‖w‖² alone is SGD on nothing with a weight decay of 1."""
    assert asked(l2) == {"params"}
    with jax.enable_x64(True):
        weights = network(seed)
        ours = jax.tree.map(
            lambda w, slope: w - rate * slope,
            weights,
            jax.grad(lambda w: l2(params=w))(weights),
        )
    theirs = [torch.tensor(w, requires_grad=True) for w in jax.tree.leaves(weights)]
    for w in theirs:
        w.grad = torch.zeros_like(w)
    torch.optim.SGD(theirs, lr=rate, weight_decay=1.0).step()
    for one, other in zip(jax.tree.leaves(ours), theirs, strict=True):
        np.testing.assert_allclose(one, other.detach(), rtol=1e-12, atol=1e-14)


@given(seed=seeds, factor=st.floats(-1e3, 1e3))
@few
def test_grows_with_the_square_of_the_weights(seed, factor):
    with jax.enable_x64(True):
        weights = network(seed)
        by_hand = sum(float(np.vdot(w, w)) for w in jax.tree.leaves(weights)) / 2
        found = l2(params=jax.tree.map(lambda w: factor * w, weights))
    assert float(found) == pytest.approx(factor**2 * by_hand, rel=1e-12)


def test_counts_every_leaf():
    weights = {"conv": {"kernel": jnp.ones((2, 3)), "bias": jnp.full(3, 2.0)}}
    assert float(l2(params=weights)) == (6 * 1 + 3 * 4) / 2


def test_zero_weights_are_at_zero_with_zero_gradient():
    value, slope = jax.value_and_grad(lambda w: l2(params=w))({"kernel": jnp.zeros((2, 2))})
    assert value == 0
    assert (slope["kernel"] == 0).all()


def test_half_precision_is_added_up_in_single():
    many = {"kernel": jnp.full((100, 100), 0.5, jnp.bfloat16)}
    assert float(l2(params=many)) == 1250


@pytest.mark.parametrize("weight", [0.1, 10.0])
def test_the_optimum_of_a_linear_model_is_ridge_regression(weight):
    """scikit-learn minimises ‖Xw − y‖² + α ‖w‖²; there ½ of it has no slope."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)), rng.normal(size=20)
    best = Ridge(alpha=weight, fit_intercept=False, solver="svd").fit(x, y).coef_

    def objective(w):
        return jnp.sum(jnp.square(x @ w - y)) / 2 + weight * l2(params={"w": w})

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.grad(objective)(best), 0, atol=1e-12)
