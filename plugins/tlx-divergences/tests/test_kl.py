"""KL of outputs against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_divergences.kl import KL

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
NOW = RNG.normal(size=(6, 5)).astype(np.float32) * 4
THEN = RNG.normal(size=(6, 5)).astype(np.float32) * 4


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_value_and_gradient_are_torchs(temperature):
    now = torch.tensor(NOW, requires_grad=True)
    theirs = temperature**2 * torch.nn.functional.kl_div(
        torch.log_softmax(now / temperature, -1),
        torch.softmax(torch.tensor(THEN) / temperature, -1),
        reduction="batchmean",
    )
    theirs.backward()
    ours, slope = jax.value_and_grad(
        lambda z: KL(temperature)(outputs=z, source_outputs=jnp.asarray(THEN))
    )(jnp.asarray(NOW))
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)
    np.testing.assert_allclose(slope, now.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_equal_probabilities_are_at_zero_with_zero_gradient(shift):
    value, slope = jax.value_and_grad(
        lambda z: KL(3.0)(outputs=z, source_outputs=jnp.asarray(NOW))
    )(jnp.asarray(NOW + shift))
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(slope, np.zeros_like(NOW), atol=1e-6)


def test_certain_sources_stay_finite():
    sure = jnp.asarray([[1e4, 0.0, -1e4]])
    value, slope = jax.value_and_grad(lambda z: KL()(outputs=z, source_outputs=sure))(
        jnp.zeros((1, 3))
    )
    assert float(value) == pytest.approx(np.log(3))
    assert np.isfinite(slope).all()


def test_refusals():
    assert asked(KL()) == {"outputs", "source_outputs"}
    with pytest.raises(ConfigError, match="temperature"):
        KL(0.0)
    for now, then in ((NOW, NOW[:, :4]), (NOW, NOW[:1]), (NOW[:, :1], NOW[:, :1]), (NOW[0],) * 2):
        with pytest.raises(ConfigError, match="same two or more classes"):
            KL()(outputs=jnp.asarray(now), source_outputs=jnp.asarray(then))
