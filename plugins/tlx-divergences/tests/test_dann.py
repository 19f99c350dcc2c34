"""DANN against torch with a reversal of its own: value, gradients on both sides, learning."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from tlx_divergences.dann import Dann

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.quantities import asked
from tlx.testing.toys import ToyBackbone
from tlx.types import unlabelled

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 4)).astype("f"), (RNG.normal(size=(3, 4)) + 1).astype("f")
MODEL = Model(ToyBackbone(), None, ToyBackbone().inputs)
OWN = {
    f"layer_{i}": {
        "kernel": RNG.normal(size=(inside, outside)).astype("f"),
        "bias": RNG.normal(size=outside).astype("f"),
    }
    for i, (inside, outside) in enumerate([(4, 5), (5, 1)])
}


class Reverse(torch.autograd.Function):
    """The paper's layer in torch."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope):  # pyright: ignore[reportIncompatibleMethodOverride]
        return -ctx.strength * slope, None


@partial(jax.jit, static_argnums=0)
def called(divergence, x, y, own, progress=0.5):
    return divergence(
        features={"pooled": x},
        domain_features={"pooled": y},
        own=own,
        progress=progress,
    )


def in_torch(x, y, own, strength):
    """The loss, with binary_cross_entropy_with_logits of either batch."""
    first, second = (own[f"layer_{i}"] for i in range(2))

    def logits(z):
        z = Reverse.apply(z, strength)
        z = torch.relu(z @ first["kernel"] + first["bias"])
        return (z @ second["kernel"] + second["bias"])[:, 0]

    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    here, there = logits(x), logits(y)
    return (entropy(here, torch.zeros(len(x))) + entropy(there, torch.ones(len(y)))) / 2


def leaves(tree):
    return jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), tree)


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("strength", "ramp"), [(1.0, True), (0.3, True), (0.3, False)])
def test_value_and_both_gradients_are_torchs(progress, strength, ramp):
    divergence = Dann(hidden=(5,), strength=strength, ramp=ramp)
    assert asked(divergence) == {"features", "domain_features", "own", "progress"}
    grown = strength * (2 / (1 + np.exp(-10 * progress)) - 1 if ramp else 1)
    x, y, own = leaves((X, Y, OWN))
    theirs = in_torch(x, y, own, grown)
    theirs.backward()
    ours, slopes = jax.value_and_grad(called, (1, 2, 3))(divergence, X, Y, OWN, progress)
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)
    jax.tree.map(
        lambda slope, leaf: np.testing.assert_allclose(slope, leaf.grad, rtol=1e-4, atol=1e-6),
        slopes,
        (x, y, own),
    )


def test_the_reversal_is_minus_the_plain_gradient_and_leaves_the_discriminators_alone():
    """Finite differences of the value give the plain gradient, for they cannot see a reversal."""
    divergence = Dann(hidden=(5,), strength=0.7, ramp=False)
    with jax.enable_x64(True):
        x, own = X.astype(float), jax.tree.map(lambda leaf: leaf.astype(float), OWN)
        move_x = RNG.normal(size=X.shape)
        move_own = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), OWN)
        slope_x, slope_own = jax.grad(lambda x, own: called(divergence, x, Y, own), argnums=(0, 1))(
            x, own
        )

        def difference(along_x, along_own, step=1e-6):
            values = [
                called(
                    divergence,
                    x + sign * step * along_x * move_x,
                    Y,
                    jax.tree.map(lambda a, b, s=sign: a + s * step * along_own * b, own, move_own),
                )
                for sign in (1, -1)
            ]
            return float(values[0] - values[1]) / (2 * step)

        assert np.sum(slope_x * move_x) == pytest.approx(-0.7 * difference(1, 0), rel=1e-6)
        along = jax.tree.map(lambda slope, move: np.sum(slope * move), slope_own, move_own)
        assert sum(jax.tree.leaves(along)) == pytest.approx(difference(0, 1), rel=1e-6)


def test_a_discriminator_that_knows_nothing_is_at_log_two():
    nothing = jax.tree.map(np.zeros_like, OWN)
    assert float(called(Dann(hidden=(5,)), X, Y, nothing)) == pytest.approx(np.log(2))
    sure = {"layer_0": {"kernel": np.full((4, 1), 1e4, "f"), "bias": np.zeros(1, "f")}}
    value, slope = jax.value_and_grad(lambda own: called(Dann(hidden=()), X, Y, own))(sure)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_its_parameters_are_sized_by_the_feature_and_learn_to_tell_apart():
    divergence = Dann(hidden=(8, 6))
    own, state = divergence.init(
        model=MODEL,
        source=None,
        batch=unlabelled({"image": np.ones((2, 8, 8, 3), np.float32)}),
        rng=jax.random.key(0),
    )
    channels = {spec.name: spec.channels for spec in MODEL.backbone.features}["pooled"]
    assert state == {}
    assert [own[f"layer_{i}"]["kernel"].shape for i in range(3)] == [(channels, 8), (8, 6), (6, 1)]
    x = jax.random.normal(jax.random.key(1), (20, channels))

    def lower(_, own):
        slope = jax.grad(lambda own: called(divergence, x, x + 2, own))(own)
        return jax.tree.map(lambda leaf, by: leaf - 0.3 * by, own, slope)

    learnt = jax.jit(lambda own: jax.lax.fori_loop(0, 300, lower, own))(own)
    assert called(divergence, x, x + 2, learnt) < 0.1 < called(divergence, x, x + 2, own)


def test_refusals():
    with pytest.raises(ConfigError, match="above 0"):
        Dann(hidden=(0,))
    with pytest.raises(ConfigError, match="reversed gradient"):
        Dann(strength=0.0)
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        Dann("poled").init(
            model=MODEL,
            source=None,
            batch=unlabelled({"image": np.ones((2, 8, 8, 3), np.float32)}),
            rng=jax.random.key(0),
        )
