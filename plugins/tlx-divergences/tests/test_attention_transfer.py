"""Attention transfer against torch, value and gradient, and sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.attention_transfer import AttentionTransfer

from tlx.errors import ConfigError
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit

RNG = np.random.default_rng(0)
NOW = RNG.normal(size=(3, 4, 5, 2)).astype(np.float32)
THEN = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)


def one(now, then):
    return AttentionTransfer()(features={"map": now}, source_features={"map": then})


apart = quick_jit(one)
with_slope = quick_jit(jax.value_and_grad(one))


def by_torch(now, then):
    """Equation 2 with p = 2, of maps (B,C,h,w)."""
    grid = tuple(np.minimum(now.shape[2:], then.shape[2:]))
    both = []
    for each in (now, then):
        q = each.square().sum(1, keepdim=True)
        if tuple(each.shape[2:]) != grid:
            q = torch.nn.functional.interpolate(q, grid, mode="bilinear", antialias=True)
        both.append(torch.nn.functional.normalize(q.flatten(1)))
    return (both[0] - both[1]).norm(dim=1).mean() / 2


@pytest.mark.parametrize("grid", [(4, 5), (8, 10), (3, 2), (2, 9)])
def test_value_and_gradient_are_torchs_on_any_grid(grid):
    assert asked(AttentionTransfer()) == {"features", "source_features"}
    then = RNG.normal(size=(3, *grid, 6)).astype(np.float32)
    now = torch.tensor(NOW.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = by_torch(now, torch.tensor(then.transpose(0, 3, 1, 2)))
    theirs.backward()
    assert now.grad is not None
    ours, slope = with_slope(NOW, then)
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)
    np.testing.assert_allclose(slope, now.grad.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-6)


def test_sum_over_maps_and_mean_over_examples_by_hand():
    total = 0.0
    for now, then in ((NOW, THEN), (NOW[:, :2], THEN[:, :2])):
        for a, b in zip(now.astype(np.float64), then.astype(np.float64), strict=True):
            q, p = ([float(c @ c) for row in x for c in row] for x in (a, b))
            q, p = np.array(q) / np.sqrt(np.dot(q, q)), np.array(p) / np.sqrt(np.dot(p, p))
            total += np.sqrt(np.sum((q - p) ** 2)) / 2 / 3
    features = {"a": NOW, "b": NOW[:, :2], "pooled": NOW[:, 0, 0]}
    source = {"a": THEN, "c": THEN[:, :2]}
    named = AttentionTransfer(("a", "b"), ("a", "c"))
    assert float(named(features=features, source_features=source)) == pytest.approx(total, rel=1e-6)
    every = AttentionTransfer()(
        features=features, source_features={"a": THEN, "b": THEN[:, :2], "other": THEN}
    )
    assert float(every) == pytest.approx(total, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_only_where_the_energy_is_counts(seed):
    rng = np.random.default_rng(seed)
    now, then = rng.normal(size=(3, 3, 2, 4)), rng.normal(size=(3, 3, 2, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    order = rng.permutation(3)
    with jax.enable_x64(True):
        value = float(apart(now, then))
        assert 0 <= value <= np.sqrt(0.5)
        assert float(apart(then, now)) == pytest.approx(value, abs=1e-12)
        assert float(apart(5 * now @ turn, then)) == pytest.approx(value, abs=1e-9)
        assert float(apart(now[order], then[order])) == pytest.approx(value, abs=1e-12)
        doubled = apart(np.concatenate([now, now]), np.concatenate([then, then]))
        assert float(doubled) == pytest.approx(value, abs=1e-12)


def test_gradient_is_that_of_finite_differences():
    step = 1e-6 * RNG.normal(size=NOW.shape)
    now, then = NOW.astype(np.float64), THEN.astype(np.float64)
    with jax.enable_x64(True):
        slope = with_slope(now, then)[1]
        risen = float(apart(now + step, then) - apart(now - step, then)) / 2
        assert risen == pytest.approx(float(jnp.vdot(slope, step)), rel=1e-6)


def test_zero_with_a_zero_gradient_at_the_source():
    value, slope = with_slope(THEN, THEN)
    assert float(value) == 0
    np.testing.assert_array_equal(slope, np.zeros_like(THEN))


def test_maps_without_energy_attend_nowhere():
    """At a distance of 1 from one that attends, of 0 from each other; both stay finite."""
    nothing = np.zeros_like(THEN)
    for now, then, value in ((nothing, THEN, 0.5), (THEN, nothing, 0.5), (nothing, nothing, 0.0)):
        found, slope = with_slope(now, then)
        assert float(found) == pytest.approx(value, rel=1e-6)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_size_does_not_matter_in_single_precision(size):
    found, slope = with_slope(np.float32(size) * NOW, THEN)
    assert float(found) == pytest.approx(float(apart(NOW, THEN)), rel=1e-5)
    assert np.isfinite(slope).all()


def test_tokens_have_positions_too():
    tokens, others = NOW.reshape(3, 20, 2), THEN.reshape(3, 20, 6)
    found = AttentionTransfer(("map",))(
        features={"map": jnp.asarray(tokens)}, source_features={"map": jnp.asarray(others)}
    )
    assert float(found) == pytest.approx(float(apart(NOW, THEN)), rel=1e-6)


def test_refusals():
    pooled = {"pooled": jnp.ones((3, 4))}
    with pytest.raises(ConfigError, match=r"has none. Name tokens in `maps`. Features: pooled"):
        AttentionTransfer()(features=pooled, source_features=pooled)
    with pytest.raises(ConfigError, match=r"has none: it is \(3, 4\)"):
        AttentionTransfer(("pooled",))(features=pooled, source_features=pooled)
    with pytest.raises(ConfigError, match="of the source does not have"):
        AttentionTransfer()(features={"map": NOW}, source_features=pooled)
    with pytest.raises(ConfigError, match="compares 1 features with 2"):
        AttentionTransfer(("a",), ("a", "b"))
    with pytest.raises(ConfigError, match="Only maps"):
        AttentionTransfer(("t",))(
            features={"t": jnp.ones((3, 5, 2))}, source_features={"t": jnp.ones((3, 6, 2))}
        )
