"""What is said to be 0 or more is that, of features in bfloat16, far apart and close together, too;
MMD against a double loop and Sinkhorn against POT in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from tlx_divergences.coral import Coral
from tlx_divergences.js import js
from tlx_divergences.kl import KL
from tlx_divergences.mmd import MMD
from tlx_divergences.sinkhorn import Sinkhorn
from tlx_divergences.sliced_wasserstein import SlicedWasserstein
from tlx_divergences.symmetric_kl import SymmetricKL

N, C = 8, 16
KINDS = ("alike", "outlier", "clusters", "positive")


def drawn(kind, scale, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, C))
    if kind == "outlier":
        x[-1] *= 100
    if kind == "clusters":
        x = 0.01 * x + 50 * (np.arange(N)[:, None] % 2)
    if kind == "positive":
        x = np.maximum(x, 0)
    return scale * x


def pairs():
    """Two samples in bfloat16: the second the first in another order, near it, or another one."""
    for kind in KINDS:
        for scale in (1, 1e2, 1e4):
            x, rng = drawn(kind, scale, 0), np.random.default_rng(1)
            near = x + 1e-3 * scale * rng.normal(size=x.shape)
            for y in (x[::-1], near, drawn(kind, scale, 2)):
                yield tuple(jnp.asarray(z, jnp.bfloat16) for z in (x, y))


@partial(jax.jit, static_argnums=0)
def between(divergence, x, y):
    words = {"features": {"pooled": x}, "domain_features": {"pooled": y}}
    if isinstance(divergence, SlicedWasserstein):
        words["rng"] = jax.random.key(0)
    return divergence(**words)


@pytest.mark.parametrize(
    "divergence",
    [MMD(), MMD(bandwidths=(1.0,)), Sinkhorn(), Coral(), SlicedWasserstein()],
    ids=["mmd", "mmd of one width", "sinkhorn", "coral", "sliced_wasserstein"],
)
def test_between_samples_it_is_0_or_more(divergence):
    slope = jax.jit(jax.grad(partial(between, divergence)))
    for x, y in pairs():
        assert between(divergence, x, y) >= 0
        assert np.isfinite(np.asarray(slope(x, y), np.float32)).all()


def test_mmd_of_one_width_is_that_of_a_double_loop_in_float64():
    """Two clusters 200 widths apart: a product of matrices would round the distances within."""
    for x, y in pairs():
        both = np.concatenate([x, y]).astype(np.float64)
        squares = ((both[:, None] - both[None]) ** 2).sum(-1)
        kernel = np.exp(-squares / 2)
        exact = kernel[:N, :N].mean() + kernel[N:, N:].mean() - 2 * kernel[:N, N:].mean()
        found = float(between(MMD(bandwidths=(1.0,)), x, y))
        assert found == pytest.approx(exact, abs=1e-4)


def test_sinkhorn_is_pots_within_what_float32_can_tell_of_the_cost():
    def entropic(x, y, epsilon):
        cost, mass = ot.dist(x, y), ot.unif(N)
        plan = ot.bregman.sinkhorn_log(mass, mass, cost, epsilon, numItermax=2000, warn=False)
        relative = np.sum(plan * np.log(np.maximum(plan, 1e-300) * N * N))
        return np.sum(plan * cost) + epsilon * relative

    for x, y in list(pairs())[::5]:
        a, b = (np.asarray(z, np.float64) for z in (x, y))
        cost = ot.dist(a, b).mean()
        epsilon = 0.05 * cost
        exact = entropic(a, b, epsilon) - (entropic(a, a, epsilon) + entropic(b, b, epsilon)) / 2
        assert float(between(Sinkhorn(), x, y)) == pytest.approx(exact, rel=1e-2, abs=1e-6 * cost)


@pytest.mark.parametrize("scale", [1e-3, 1, 30])
def test_between_probabilities_it_is_0_or_more(scale):
    rng = np.random.default_rng(0)
    z = jnp.asarray(scale * rng.normal(size=(64, 100)), jnp.bfloat16)
    near = (z + 1e-3 * scale * rng.normal(size=z.shape)).astype(jnp.bfloat16)
    for other in (z, near, z[::-1], z + 1):
        for divergence in (KL(), SymmetricKL(), js):
            value = divergence(outputs=other, source_outputs=z)
            assert value >= 0
            assert jnp.isfinite(value)
        assert js(outputs=other, source_outputs=z) <= np.log(2) + 1e-6
