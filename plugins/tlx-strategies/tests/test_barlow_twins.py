"""Barlow Twins: the cross-correlation against PyTorch's batch norm, padding, the trivial loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies.barlow_twins import barlow_twins, redundancy
from torch.nn import functional

from tlx.errors import ConfigError

Z = np.random.default_rng(0).normal(2, 3, size=(2, 9, 6)).astype(np.float32)
ONES = np.ones(9, np.float32)


def reference(z, off_diagonal):
    one, other = (functional.batch_norm(each, None, None, training=True) for each in z)
    correlation = one.T @ other / z.shape[1]
    loss = 0
    for i in range(len(correlation)):
        for j in range(len(correlation)):
            wrong = (1 - correlation[i, j]) if i == j else correlation[i, j]
            loss = loss + wrong**2 * (1 if i == j else off_diagonal)
    return loss


@pytest.mark.parametrize("off_diagonal", [5e-3, 1.0])
def test_loss_and_gradient_agree_with_pytorch(off_diagonal):
    theirs = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    expected = reference(theirs, off_diagonal)
    expected.backward()
    loss, slope = jax.value_and_grad(redundancy)(Z, ONES, off_diagonal)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-3, atol=1e-6)


def test_padding_takes_no_part():
    weight = np.asarray([1, 0, 1, 1, 1, 0, 1, 1, 1], np.float32)
    expected = reference(torch.tensor(Z[:, weight > 0], dtype=torch.float64), 5e-3)
    np.testing.assert_allclose(redundancy(Z, weight, 5e-3), expected, rtol=1e-5)
    slope = jax.grad(redundancy)(Z, weight, 5e-3)
    assert not np.asarray(slope)[:, weight == 0].any()


def test_features_that_are_the_same_everywhere_have_the_trivial_loss():
    constant, strategy = jnp.ones((2, 9, 6)), barlow_twins(projector=(8, 6))
    np.testing.assert_allclose(redundancy(constant, ONES, 5e-3), strategy.trivial(9))
    assert np.isfinite(jax.grad(redundancy)(constant, ONES, 5e-3)).all()
    same = jnp.stack([Z[0], Z[0]])
    assert redundancy(same, ONES, 0.0) < 1e-6  # nothing but what agrees with itself


def test_the_second_view_differs_where_pictures_are_large():
    views = barlow_twins().views
    assert views.small[0] == views.small[1]
    first, second = ([type(step).__name__ for step in steps] for steps in views.large)
    assert (first[-1], second[-1]) == ("Blur", "Solarize")
    assert views.large[0][4].probability == 1.0
    assert views.large[1][4].probability == 0.1
    with pytest.raises(ConfigError, match="off_diagonal is a weight"):
        barlow_twins(off_diagonal=-1.0)
