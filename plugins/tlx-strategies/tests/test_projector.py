"""The projector against PyTorch's layers: values, running statistics, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies import projector
from tlx_strategies.batch_moments import moments
from torch import nn

from tlx.errors import ConfigError

WIDTHS = (5, 6, 4)
MADE = projector.init(jax.random.key(0), 3, WIDTHS)
X = np.random.default_rng(0).normal(1, 2, size=(2, 7, 3)).astype(np.float32)
ONES = np.ones(7, np.float32)


def reference():
    layers = []
    for into, out in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
        layers += [nn.Linear(into, out, bias=False), nn.BatchNorm1d(out), nn.ReLU()]
    network = nn.Sequential(*layers[:-2])
    for number, layer in enumerate(network[::3]):
        kernel = np.asarray(MADE.params[f"dense{number}"]["kernel"])
        layer.weight.data = torch.tensor(kernel.T)
    return network


def test_values_and_running_statistics_agree_with_pytorch():
    network, state = reference(), MADE.state
    for step in range(3):
        x = X + step
        ours, state = projector.apply(MADE.params, state, x, ONES, mode="train")
        theirs = network(torch.tensor(x.reshape(-1, 3)))
        np.testing.assert_allclose(ours.reshape(-1, 4), theirs.detach(), rtol=1e-4, atol=1e-5)
    for number in (0, 1):
        norm = network[3 * number + 1]
        mine = state[f"norm{number}"]
        np.testing.assert_allclose(mine["mean"], norm.running_mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mine["var"], norm.running_var, rtol=1e-5)
    ours, same = projector.apply(MADE.params, state, X, ONES, mode="eval")
    theirs = network.eval()(torch.tensor(X.reshape(-1, 3)))
    np.testing.assert_allclose(ours.reshape(-1, 4), theirs.detach(), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same, state)


def test_padding_moves_neither_other_rows_nor_statistics():
    weight = np.asarray([1, 1, 0, 1, 1, 0, 1], np.float32)
    real = weight > 0
    padded = projector.apply(MADE.params, MADE.state, X, weight, mode="train")
    loud = np.where(real[:, None], X, 1e3).astype(np.float32)
    louder = projector.apply(MADE.params, MADE.state, loud, weight, mode="train")
    without = projector.apply(MADE.params, MADE.state, X[:, real], ONES[real], mode="train")
    for z, state in (padded, louder):
        np.testing.assert_allclose(z[:, real], without[0], rtol=1e-4, atol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, without[1]
        )


def test_moments_of_a_batch_of_nothing_but_padding_are_finite():
    found = moments(X, jnp.zeros(7))
    assert np.isfinite(found.var).all()
    assert np.isfinite(found.unbiased).all()


def test_refusals():
    with pytest.raises(ConfigError, match=r"projector = \[4\] is no projector"):
        projector.check_widths("projector", (4,))
    with pytest.raises(ConfigError, match=r"predictor = \[4, 0\]"):
        projector.check_widths("predictor", (4, 0))
