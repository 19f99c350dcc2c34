"""VICReg: the three terms against PyTorch, padding, the trivial loss, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies.vicreg import spread, vicreg
from torch.nn import functional

from tlx.errors import ConfigError

# Some dimensions vary by more than 1 and some by less.
Z = np.random.default_rng(0).normal(size=(2, 9, 6)).astype(np.float32)
Z *= np.asarray([0.2, 0.5, 0.9, 1.1, 2.0, 0.7], np.float32)
ONES = np.ones(9, np.float32)
STRATEGY = vicreg(projector=(8, 6), views=("flip",))


def reference(z):
    one, other = z
    loss = 25 * functional.mse_loss(one, other)
    for each in (one, other):
        covariance = torch.cov(each.T)
        hinge = functional.relu(1 - torch.sqrt(each.var(0) + 1e-4))
        away = covariance - torch.diag(torch.diag(covariance))
        loss = loss + 25 * hinge.mean() / 2 + away.pow(2).sum() / each.shape[1]
    return loss


def ours(z, weight=ONES):
    loss = STRATEGY.loss(z, jnp.asarray(weight))
    return (loss * weight).sum() / weight.sum()


def test_loss_and_gradient_agree_with_pytorch():
    theirs = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    expected = reference(theirs)
    expected.backward()
    loss, slope = jax.value_and_grad(ours)(Z)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-4, atol=1e-6)


def test_padding_takes_no_part():
    weight = np.asarray([1, 0, 1, 1, 1, 0, 1, 1, 1], np.float32)
    expected = reference(torch.tensor(Z[:, weight > 0], dtype=torch.float64))
    np.testing.assert_allclose(ours(Z, weight), expected, rtol=1e-5)
    slope = jax.grad(ours)(Z, weight)
    assert not np.asarray(slope)[:, weight == 0].any()


def test_features_that_are_the_same_everywhere_have_the_trivial_loss():
    constant = jnp.ones((2, 9, 6))
    np.testing.assert_allclose(ours(constant), STRATEGY.trivial(9), rtol=1e-5)
    assert np.isfinite(jax.grad(ours)(constant)).all()
    alone = spread(Z[0, :1], ONES[:1])
    np.testing.assert_allclose(alone, (0.99, 0.0), atol=1e-6)


def test_refusals():
    with pytest.raises(ConfigError, match="covariance is a weight"):
        vicreg(covariance=-1.0)
