"""L1-SP against torch, its subgradient at the source, and scikit-learn's lasso."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from tlx_divergences.l1 import L1

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
SHAPES = {"kernel": (3, 3, 2, 4), "bias": (4,)}
NOW = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
START = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
HEAD = {"kernel": jnp.full((4, 2), 2.0), "bias": jnp.ones(2)}


def torchs(names):
    return sum(
        torch.nn.functional.l1_loss(
            torch.tensor(NOW[name]), torch.tensor(START[name]), reduction="sum"
        ).item()
        for name in names
    )


def test_is_torchs_sum_of_absolute_differences():
    words = {"params": NOW, "source_params": START, "head_params": HEAD}
    assert asked(L1()) == set(words)
    assert float(L1()(**words)) == pytest.approx(torchs(SHAPES), rel=1e-6)
    assert float(L1(norms_and_biases=False)(**words)) == pytest.approx(torchs(["kernel"]), rel=1e-6)
    assert float(L1(head=0.5)(**words)) == pytest.approx(torchs(SHAPES) + 0.5 * 17, rel=1e-6)


def test_the_gradient_is_the_sign_and_zero_at_the_source():
    now = jnp.asarray([1.0, 2.0, 3.0])
    start = jnp.asarray([2.0, 2.0, 2.5])
    slope = jax.grad(lambda w: L1()(params=w, source_params=start, head_params=None))(now)
    assert slope.tolist() == [-1, 0, 1]


@pytest.mark.parametrize("weight", [0.02, 0.2])
def test_a_linear_model_has_its_optimum_where_the_lasso_has_it(weight):
    """argmin 1/2n ‖Xw − y‖² + λ ‖w − w⁰‖₁ is w⁰ plus the lasso of what w⁰ leaves unexplained:
    there the gradient is 0 where w has moved, and no steeper than λ where it has not."""
    x, start = RNG.normal(size=(40, 8)), RNG.normal(size=8)
    y = x @ (start + np.r_[1.5, -0.7, np.zeros(6)]) + 0.1 * RNG.normal(size=40)
    lasso = Lasso(alpha=weight, fit_intercept=False, tol=1e-14, max_iter=100_000)
    best = start + lasso.fit(x, y - x @ start).coef_
    stayed = best == start
    assert 0 < stayed.sum() < 8

    def fit(w):
        return jnp.mean(jnp.square(x @ w - y)) / 2

    def objective(w):
        return fit(w) + weight * L1()(params=w, source_params=start, head_params=None)

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.grad(objective)(best)[~stayed], 0, atol=1e-8)
        assert (np.abs(jax.grad(fit)(best)[stayed]) <= weight).all()
        near = best + 1e-3 * RNG.normal(size=(50, 8))
        assert (jax.vmap(objective)(near) > objective(best)).all()


def test_refusals():
    with pytest.raises(ConfigError, match="0 or more"):
        L1(head=-1.0)
    with pytest.raises(ConfigError, match=r"l1 weighs the head.*no head"):
        L1(head=1.0)(params=NOW, source_params=START, head_params=None)
