"""What all distances between parameters have in common, on networks of random size and scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.cosine import cosine
from tlx_divergences.ewc import EWC
from tlx_divergences.l1 import L1
from tlx_divergences.l2_sp import L2SP
from tlx_divergences.l2_sp_fisher import L2SPFisher

from tlx.quantities import asked

DISTANCES = {
    "cosine": cosine,
    "ewc": EWC(),
    "l1": L1(),
    "l2_sp": L2SP(),
    "l2_sp_fisher": L2SPFisher(),
}
every = pytest.mark.parametrize("name", DISTANCES)
few = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
scales = st.sampled_from([1e-6, 1e-2, 1.0, 1e3])


def network(seed, scale=1.0):
    """Float64 weights of a network whose shapes do not depend on the seed."""
    rng = np.random.default_rng(seed)
    return {
        "stem": {"kernel": scale * rng.normal(size=(2, 3)), "bias": scale * rng.normal(size=3)},
        "top": {"kernel": scale * rng.normal(size=(3, 1, 2)), "scale": rng.normal(size=2)},
    }


def distance(name, now, then, fisher):
    """A distance of two networks; `fisher` weighs the weights, for those that ask for it."""
    divergence = DISTANCES[name]
    words = {"params": now, "source_params": then, "head_params": {}, "prepared": fisher}
    return divergence(**{word: words[word] for word in asked(divergence)})


value_and_slope = jax.jit(jax.value_and_grad(distance, 1), static_argnums=0)


def measured(name, now, then):
    """Value and gradient in float64, as numpy's."""
    with jax.enable_x64(True):
        found = value_and_slope(name, now, then, jax.tree.map(np.square, network(7)))
        return jax.tree.map(np.asarray, found)


@every
@given(seed=seeds, scale=scales)
@few
def test_is_zero_at_the_source_with_a_gradient_of_zero(name, seed, scale):
    here = network(seed, scale)
    value, slope = measured(name, here, here)
    assert 0 <= value < 1e-30
    assert all((np.abs(leaf) * scale < 1e-15).all() for leaf in jax.tree.leaves(slope))


@every
@given(seed=seeds, scale=scales)
@few
def test_is_positive_elsewhere_and_symmetric(name, seed, scale):
    here, there = network(seed, scale), network(seed + 1, scale)
    value = measured(name, here, there)[0]
    assert value > 0
    assert value == pytest.approx(measured(name, there, here)[0], rel=1e-12)


@every
@given(seed=seeds)
@few
def test_the_gradient_is_that_of_finite_differences(name, seed):
    here, there, way = (network(seed + i) for i in range(3))

    def at(t):
        return measured(name, jax.tree.map(lambda w, d: w + t * d, here, way), there)

    slope, step = at(0)[1], 1e-6
    along = sum(np.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (slope, way)), strict=True))
    rise = (at(step)[0] - at(-step)[0]) / (2 * step)
    assert along == pytest.approx(rise, rel=1e-5, abs=1e-7)


@every
@pytest.mark.parametrize("here", [0.0, 1.0, 1e-30])
@pytest.mark.parametrize("there", [0.0, 1.0, 1e-30])
def test_is_finite_where_weights_are_equal_or_zero(name, here, there):
    now, then = (
        jax.tree.map(lambda w, v=value: jnp.full(w.shape, v, jnp.float32), network(0))
        for value in (here, there)
    )
    value, slope = value_and_slope(name, now, then, now)
    assert np.isfinite(value)
    assert value >= 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@every
def test_half_precision_is_added_up_in_single(name):
    """A sum of 2 · 10⁴ equal terms, far beyond where bfloat16 stops counting."""
    now, then = ({"kernel": jnp.full((100, 200), v, jnp.bfloat16)} for v in (0.5, -0.5))
    found = distance(name, now, then, {"kernel": jnp.ones((100, 200))})
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx({"cosine": 2, "l1": 20000}.get(name, 10000), rel=1e-6)
