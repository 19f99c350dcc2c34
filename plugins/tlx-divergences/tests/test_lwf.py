"""Learning without forgetting against the paper's loss, written out in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_divergences.lwf import LwF

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
NOW, THEN = RNG.normal(size=(2, 6, 5)) * 3


def papers(now, then, temperature):
    """Σ over images of −Σ_i y'_i log ŷ'_i over their number, and of the entropy of y', with
    y'_i = y_i^(1/T) / Σ_j y_j^(1/T) as in section 3."""
    loss = entropy = 0.0
    for z_hat, z in zip(now, then, strict=True):
        y_hat, y = np.exp(z_hat) / np.exp(z_hat).sum(), np.exp(z) / np.exp(z).sum()
        y_hat = y_hat ** (1 / temperature) / sum(y_hat ** (1 / temperature))
        y = y ** (1 / temperature) / sum(y ** (1 / temperature))
        for a, b in zip(y, y_hat, strict=True):
            loss -= a * np.log(b) / len(now)
            entropy -= a * np.log(a) / len(now)
    return loss, entropy


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_it_is_the_papers_cross_entropy_less_the_entropy_of_what_was_recorded(temperature):
    loss, entropy = papers(NOW, THEN, temperature)
    with jax.enable_x64(True):
        divergence = LwF(temperature)
        recorded = divergence.record(source_outputs=jnp.asarray(THEN))
        ours = divergence(source_head_outputs=jnp.asarray(NOW), recorded=recorded)
        assert float(ours) == pytest.approx(loss - entropy, rel=1e-12)


def test_the_gradient_is_that_of_torchs_cross_entropy_on_soft_labels():
    now = torch.tensor(NOW, requires_grad=True)
    soft = torch.softmax(torch.tensor(THEN) / 2, -1)
    torch.nn.functional.cross_entropy(now / 2, soft).backward()
    with jax.enable_x64(True):
        recorded = {"outputs": jnp.asarray(THEN)}
        slope = jax.grad(lambda z: LwF()(source_head_outputs=z, recorded=recorded))(
            jnp.asarray(NOW)
        )
    np.testing.assert_allclose(slope, now.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_what_is_still_answered_as_recorded_is_at_zero_with_zero_gradient(shift):
    recorded = LwF().record(source_outputs=jnp.asarray(THEN, jnp.float32))
    value, slope = jax.value_and_grad(lambda z: LwF()(source_head_outputs=z, recorded=recorded))(
        jnp.asarray(THEN + shift, jnp.float32)
    )
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(slope, np.zeros_like(THEN), atol=1e-6)


def test_words_and_refusals():
    assert asked(LwF()) == {"source_head_outputs", "recorded"}
    assert asked(LwF().record) == {"source_outputs"}
    assert LwF().temperature == 2
    with pytest.raises(ConfigError, match="temperature"):
        LwF(-1.0)
    with pytest.raises(ConfigError, match="there is no head"):
        LwF()(source_head_outputs=None, recorded={"outputs": None})
