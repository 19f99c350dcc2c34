"""SimCLR: NT-Xent against PyTorch's cross-entropy, padding, the trivial loss, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies.simclr import SimCLR, nt_xent, simclr
from torch.nn import functional

from tlx.errors import ConfigError

Z = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
ONES = np.ones(7, np.float32)


def reference(z, temperature):
    """Every view is classified as its partner among all other views."""
    rows = functional.normalize(torch.cat(list(z)), dim=1)
    logits = rows @ rows.T / temperature
    logits.fill_diagonal_(-torch.inf)
    half = len(rows) // 2
    partner = torch.cat([torch.arange(half) + half, torch.arange(half)])
    each = functional.cross_entropy(logits, partner, reduction="none")
    return each.reshape(2, half).mean(0)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_loss_and_gradient_agree_with_pytorch(temperature):
    theirs = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    each = reference(theirs, temperature)
    each.mean().backward()
    loss, slope = jax.value_and_grad(lambda z: nt_xent(z, ONES, temperature).mean())(Z)
    np.testing.assert_allclose(nt_xent(Z, ONES, temperature), each.detach(), rtol=1e-5)
    np.testing.assert_allclose(loss, each.mean().item(), rtol=1e-5)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-3, atol=1e-6)


def test_padding_is_nobodys_negative():
    weight = np.asarray([1, 1, 0, 1, 0, 1, 1], np.float32)
    real = weight > 0
    expected = reference(torch.tensor(Z[:, real], dtype=torch.float64), 0.5)
    np.testing.assert_allclose(nt_xent(Z, weight, 0.5)[real], expected, rtol=1e-5)

    def loss(z):
        return (nt_xent(z, weight, 0.5) * weight).sum()

    slope = jax.grad(loss)(Z)
    assert np.isfinite(slope).all()
    assert not np.asarray(slope)[:, ~real].any()


def test_features_that_are_the_same_everywhere_have_the_trivial_loss():
    loss = nt_xent(jnp.ones((2, 7, 5)), ONES, 0.5)
    np.testing.assert_allclose(loss, np.full(7, simclr().trivial(7)), rtol=1e-6)


def test_views_and_options():
    small, large = simclr().views.small, simclr().views.large
    assert small[0] == small[1]
    names = [type(step).__name__ for step in large[0]]
    assert names == ["ResizedCrop", "Flip", "ColorJitter", "Grayscale", "Blur"]
    assert [type(step).__name__ for step in small[0]] == names[:-1]
    assert small[0][2].brightness == 0.4
    assert large[0][2].brightness == 0.8
    assert simclr(temperature=0.1, projector=(8, 4)) == SimCLR(simclr().views, 0.1, (8, 4))
    with pytest.raises(ConfigError, match="temperature"):
        simclr(temperature=0.0)
    with pytest.raises(ConfigError, match=r"projector = \[4\]"):
        simclr(projector=(4,))
