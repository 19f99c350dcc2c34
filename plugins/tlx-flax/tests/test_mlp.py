"""The perceptron for rows, held against PyTorch, and its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_flax.mlp import Mlp

from tlx import trees
from tlx.errors import ConfigError
from tlx.protocols import Backbone, Staged

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7)), jnp.float32)


def test_it_computes_what_pytorch_does():
    net = Mlp(width=6, depth=3)
    params, state = net.init(KEY, X)
    features, _ = net.apply(params, state, X, rng=KEY, mode="eval")
    x = torch.from_numpy(np.array(X))
    for number in range(3):
        layer = params[f"layer{number + 1}"]["linear"]
        dense = torch.nn.Linear(*layer["kernel"].shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(np.array(layer["kernel"]).T))
            dense.bias.copy_(torch.from_numpy(np.array(layer["bias"])))
            x = torch.relu(dense(x))
        np.testing.assert_allclose(features[f"layer{number + 1}"], x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features["pooled"], features["layer3"])


def test_the_first_layer_is_as_wide_as_its_rows():
    net = Mlp(width=6, depth=2)
    assert isinstance(net, Backbone)
    assert isinstance(net, Staged)
    for given in (1, 7):
        params, _ = net.init(KEY, X[:, :given])
        assert trees.count(params) == (given + 1) * 6 + 7 * 6
    assert net.stages == ("layer1", "layer2")
    assert net.leaf("layer2/linear/kernel").stage == "layer2"
    assert net == Mlp(6, 2)
    assert hash(net) == hash(Mlp(6, 2))


def test_stages_in_turn_are_the_whole_and_know_their_width_from_the_numbers():
    net = Mlp(width=6, depth=2)
    params, state = net.init(KEY, X)
    carry = X
    for number in range(2):
        carry, found, _ = net.apply_stages(
            params, state, carry, start=number, stop=number + 1, rng=KEY, mode="eval"
        )
    wanted, _ = net.apply(params, state, X, rng=KEY, mode="eval")
    np.testing.assert_array_equal(found["pooled"], wanted["pooled"])


def test_dropout_is_of_training_alone():
    net = Mlp(width=200, depth=1, dropout=0.25)
    params, state = net.init(KEY, X)
    kept, _ = net.apply(params, state, X, rng=KEY, mode="eval")
    some, _ = net.apply(params, state, X, rng=KEY, mode="train")
    there = np.asarray(kept["pooled"]) > 0
    share = (np.asarray(some["pooled"])[there] == 0).mean()
    assert share == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 0}, {"dropout": 1.0}])
def test_what_makes_no_network_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} = .* must be"):
        Mlp(**wrong)
