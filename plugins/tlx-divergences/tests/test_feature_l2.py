"""Feature L2 against its closed form on a linear feature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_divergences.feature_l2 import FeatureL2

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
NOW = {"low": jnp.asarray(RNG.normal(size=(3, 4, 4, 2))), "pooled": jnp.ones((3, 5))}
THEN = {"low": jnp.asarray(RNG.normal(size=(3, 4, 4, 2))), "pooled": jnp.full((3, 5), 3.0)}


def test_means_by_hand():
    assert asked(FeatureL2()) == {"features", "source_features"}
    assert float(FeatureL2()(features=NOW, source_features=THEN)) == 2
    low = np.square(np.asarray(NOW["low"]) - np.asarray(THEN["low"])).sum() / (3 * 4 * 4 * 2) / 2
    both = FeatureL2(("low", "pooled"))(features=NOW, source_features=THEN)
    assert float(both) == pytest.approx((low + 2) / 2, rel=1e-6)
    assert float(FeatureL2()(features=THEN, source_features=THEN)) == 0


def test_a_linear_feature_has_the_closed_form_and_its_gradient():
    """f = xW, so D = tr(ΔᵀxᵀxΔ) / 2BC and its gradient xᵀxΔ / BC, Δ = W − W⁰."""
    x, w, start = (RNG.normal(size=s).astype(np.float32) for s in ((6, 4), (4, 3), (4, 3)))

    def divergence(w):
        return FeatureL2()(features={"pooled": x @ w}, source_features={"pooled": x @ start})

    value, slope = jax.value_and_grad(divergence)(w)
    moved = w - start
    assert float(value) == pytest.approx(np.trace(moved.T @ x.T @ x @ moved) / 36, rel=1e-5)
    np.testing.assert_allclose(slope, x.T @ x @ moved / 18, rtol=1e-4, atol=1e-6)


def test_refusals():
    with pytest.raises(ConfigError, match="names none"):
        FeatureL2(())
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        FeatureL2(("poled",))(features=NOW, source_features=THEN)
    with pytest.raises(ConfigError, match="of the source does not have"):
        FeatureL2()(features=NOW, source_features={})
    with pytest.raises(ConfigError, match=r"\(3, 5\) here and \(1, 5\)"):
        FeatureL2()(features=NOW, source_features={"pooled": jnp.ones((1, 5))})
