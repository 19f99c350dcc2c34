"""BYOL: its distance against PyTorch's cosine, what the teacher is and that nothing reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies.byol import BYOL, byol, distance
from torch.nn import functional

from tlx.errors import ConfigError

RNG = np.random.default_rng(0)


def test_loss_and_gradient_agree_with_pytorch():
    predicted, target = RNG.normal(size=(2, 2, 7, 5)).astype(np.float32)
    theirs = torch.tensor(predicted, dtype=torch.float64, requires_grad=True)
    other = torch.tensor(target, dtype=torch.float64)
    expected = sum(2 - 2 * functional.cosine_similarity(theirs[i], other[1 - i]) for i in (0, 1))
    expected.mean().backward()
    np.testing.assert_allclose(distance(predicted, target), expected.detach(), rtol=1e-5)
    slope = jax.grad(lambda z: distance(z, target).mean())(predicted)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-3, atol=1e-6)


def test_features_that_are_the_same_everywhere_reach_the_lowest_loss():
    same = jnp.ones((2, 7, 5))
    np.testing.assert_allclose(distance(same, same), np.zeros(7), atol=1e-6)
    assert byol().trivial(7) is None


def test_options():
    own = byol(momentum=0.99, projector=(8, 4), predictor=(6, 4), views=("flip",))
    assert own == BYOL(own.views, 0.99, (8, 4), (6, 4))
    assert hash(own) == hash(byol(0.99, (8, 4), (6, 4), ("flip",)))
    with pytest.raises(ConfigError, match="must end with 4, as"):
        byol(projector=(8, 4), predictor=(8, 5))
    with pytest.raises(ConfigError, match=r"momentum .* not 1\.5"):
        byol(momentum=1.5)
