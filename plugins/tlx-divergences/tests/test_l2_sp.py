"""L2-SP against sums by hand and the closed form of a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_divergences.l2_sp import L2SP

from tlx.errors import ConfigError
from tlx.quantities import asked

W = {"conv": {"kernel": jnp.ones((2, 3)), "bias": jnp.full(3, 2.0)}}
START = {"conv": {"kernel": jnp.zeros((2, 3)), "bias": jnp.full(3, 5.0)}}
HEAD = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.ones(2)}


def test_sums_by_hand():
    words = {"params": W, "source_params": START, "head_params": HEAD}
    assert float(L2SP()(**words)) == (6 * 1 + 3 * 9) / 2
    assert float(L2SP(norms_and_biases=False)(**words)) == 6 / 2
    assert float(L2SP(head=0.1)(**words)) == pytest.approx((6 + 27) / 2 + 0.1 * (6 * 4 + 2) / 2)
    assert float(L2SP(head=0.1, norms_and_biases=False)(**words)) == pytest.approx(3 + 0.1 * 12)
    assert float(L2SP()(**{**words, "params": START})) == 0


def test_refusals():
    assert asked(L2SP()) == {"params", "source_params", "head_params"}
    with pytest.raises(ConfigError, match="0 or more"):
        L2SP(head=-1.0)
    with pytest.raises(ConfigError, match="no head"):
        L2SP(head=1.0)(params=W, source_params=START, head_params=None)
    assert float(L2SP()(params=START, source_params=START, head_params=None)) == 0


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_a_linear_model_reaches_the_closed_form_optimum(weight):
    """argmin ½‖Xw − y‖² + λ ½‖w − w⁰‖² is (XᵀX + λI)⁻¹ (Xᵀy + λw⁰)."""
    rng = np.random.default_rng(0)
    x, y, start = rng.normal(size=(15, 4)), rng.normal(size=15), rng.normal(size=4)
    exact = np.linalg.solve(x.T @ x + weight * np.eye(4), x.T @ y + weight * start)
    rate = 1 / (np.linalg.eigvalsh(x.T @ x).max() + weight)

    def objective(w):
        fit = jnp.sum(jnp.square(x @ w - y)) / 2
        pull = L2SP()(params={"w": w}, source_params={"w": start}, head_params={})
        return fit + weight * pull

    with jax.enable_x64(True):
        descend = jax.jit(
            lambda w: jax.lax.fori_loop(0, 2000, lambda _, w: w - rate * jax.grad(objective)(w), w)
        )
        found = descend(jnp.asarray(start))
        np.testing.assert_allclose(found, exact, atol=1e-10)
