"""FitNets against torch's 1x1 convolution, and against least squares where its regressor ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from tlx_divergences.feature_l2 import FeatureL2
from tlx_divergences.fitnets import FitNets

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.types import Network, Variables, unlabelled

RNG = np.random.default_rng(0)
NOW = RNG.normal(size=(4, 3, 5, 2)).astype(np.float32)
HINT = RNG.normal(size=(4, 3, 5, 6)).astype(np.float32)


def network(width):
    backbone = ToyBackbone(width=width)
    return Network(Model(backbone, None, backbone.inputs), Variables({}, {}))


def regressors(divergence, width=2, source=3):
    found = divergence.init(
        model=network(width).model,
        source=network(source),
        batch=unlabelled({"image": jnp.ones((2, 8, 8, 3))}),
        rng=jax.random.key(0),
    )
    assert found.state == {}
    return found.params


def test_value_and_gradient_are_torchs():
    divergence = FitNets(("stage1",), ("stage2",))
    assert asked(divergence) == {"features", "source_features", "own"}
    own = regressors(divergence)
    conv = torch.nn.Conv2d(2, 6, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor(np.asarray(own["stage1"]["kernel"]).T[..., None, None])
        conv.bias[:] = 0
    now = torch.tensor(NOW.transpose(0, 3, 1, 2), requires_grad=True)
    hint = torch.tensor(HINT.transpose(0, 3, 1, 2))
    theirs = torch.nn.functional.mse_loss(conv(now), hint) / 2
    theirs.backward()

    def value(now, own):
        return divergence(features={"stage1": now}, source_features={"stage2": HINT}, own=own)

    ours, (slope, learnt) = quick_jit(jax.value_and_grad(value, (0, 1)))(NOW, own)
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)
    np.testing.assert_allclose(slope, now.grad.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-7)
    kernel = conv.weight.grad[..., 0, 0].T
    np.testing.assert_allclose(learnt["stage1"]["kernel"], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(learnt["stage1"]["bias"], conv.bias.grad, rtol=1e-4, atol=1e-6)


def test_the_regressor_ends_at_least_squares():
    x, y = NOW.reshape(-1, 2), HINT.reshape(-1, 6)
    exact = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[1].sum() / y.size / 2
    divergence = FitNets(("stage1",), ("stage2",))
    words = {"features": {"stage1": NOW}, "source_features": {"stage2": HINT}}
    descend = optax.lbfgs()

    def value(own):
        return divergence(**words, own=own)

    def step(_, carry):
        own, state = carry
        found, slope = optax.value_and_grad_from_state(value)(own, state=state)
        move, state = descend.update(slope, state, own, value=found, grad=slope, value_fn=value)
        return optax.apply_updates(own, move), state

    own = regressors(divergence)
    own, _ = quick_jit(lambda own: jax.lax.fori_loop(0, 30, step, (own, descend.init(own))))(own)
    assert float(value(own)) == pytest.approx(exact, rel=1e-5)


def test_with_the_identity_for_a_regressor_it_is_feature_l2():
    now, then = {"a": HINT, "b": NOW}, {"a": 2 * HINT, "b": NOW + 1}
    own = {
        name: {"kernel": jnp.eye(wide), "bias": jnp.zeros(wide)}
        for name, wide in (("a", 6), ("b", 2))
    }
    names = ("a", "b")
    found = FitNets(names)(features=now, source_features=then, own=own)
    plain = FeatureL2(names)(features=now, source_features=then)
    assert float(found) == pytest.approx(float(plain), rel=1e-6)
    assert float(FitNets(names)(features=now, source_features=now, own=own)) == 0
    order = RNG.permutation(4)
    mixed = [{k: v[order] for k, v in each.items()} for each in (now, then)]
    again = FitNets(names)(features=mixed[0], source_features=mixed[1], own=own)
    assert float(again) == pytest.approx(float(found), rel=1e-6)


def test_regressors_fit_the_channels_of_both_networks():
    own = regressors(FitNets(("stage1", "pooled"), ("stage2", "stage1")), width=5, source=3)
    shapes = jax.tree.map(jnp.shape, own)
    assert shapes == {
        "stage1": {"kernel": (5, 6), "bias": (6,)},
        "pooled": {"kernel": (10, 3), "bias": (3,)},
    }
    assert not np.array_equal(own["stage1"]["kernel"][:, :3], own["pooled"]["kernel"][:5])


def test_maps_meet_on_the_smaller_grid():
    divergence = FitNets(("stage1",), ("stage2",))
    own = regressors(divergence)
    even = jnp.ones((4, 6, 10, 6))  # a constant stays one on any grid
    found = divergence(
        features={"stage1": jnp.zeros((4, 3, 5, 2))}, source_features={"stage2": even}, own=own
    )
    assert float(found) == pytest.approx(0.5, rel=1e-6)


def test_refusals():
    with pytest.raises(ConfigError, match="names none"):
        FitNets(())
    with pytest.raises(ConfigError, match="compares 1 features with 2"):
        FitNets(("a",), ("a", "b"))
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        regressors(FitNets(("poled",)))
    with pytest.raises(ConfigError, match="of the source does not have"):
        regressors(FitNets(("pooled",), ("deep",)))
    own = regressors(FitNets(("stage1",), ("pooled",)))
    with pytest.raises(ConfigError, match="Only maps"):
        FitNets(("stage1",), ("pooled",))(
            features={"stage1": NOW}, source_features={"pooled": HINT[:, 0, 0]}, own=own
        )
