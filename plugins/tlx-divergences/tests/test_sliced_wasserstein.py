"""Sliced Wasserstein against POT along the same directions, and against closed forms."""

from functools import partial

import jax
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.sliced_wasserstein import SlicedWasserstein, directions, quantiles

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
KEY = jax.random.key(5)


@partial(jax.jit, static_argnums=0)
def called(divergence, x, y, rng=KEY):
    return divergence(features={"pooled": x}, domain_features={"pooled": y}, rng=rng)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 4), (3, 7), (1, 5)])
def test_pot_along_the_same_directions(n, m):
    assert asked(SlicedWasserstein()) == {"features", "domain_features", "rng"}
    x, y = RNG.normal(size=(n, 4)), RNG.normal(size=(m, 4)) + 1
    with jax.enable_x64(True):
        ours = called(SlicedWasserstein(projections=16), x, y)
        lines = np.asarray(directions(KEY, 4, 16))
    root = ot.sliced_wasserstein_distance(x, y, projections=lines)
    assert float(ours) == pytest.approx(root**2, rel=1e-9)
    one_by_one = [ot.emd2_1d(x @ line, y @ line) for line in lines.T]
    assert float(ours) == pytest.approx(np.mean(one_by_one), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12))
def test_the_plan_of_quantiles_has_the_right_masses(n, m):
    mass, i, j = quantiles(n, m)
    np.testing.assert_allclose(np.bincount(i, mass), np.full(n, 1 / n))
    np.testing.assert_allclose(np.bincount(j, mass), np.full(m, 1 / m))
    assert (np.diff(i) >= 0).all()
    assert (np.diff(j) >= 0).all()


def test_a_shift_counts_its_square_over_the_channels_in_expectation():
    x, v = RNG.normal(size=(5, 3)), np.asarray([1.0, 2.0, -1.0])
    value = called(SlicedWasserstein(projections=20000), x, x + v)
    assert float(value) == pytest.approx(v @ v / 3, rel=0.02)
    lines = directions(KEY, 3, 7)
    np.testing.assert_allclose(np.linalg.norm(lines, axis=0), np.ones(7), rtol=1e-6)


def test_on_a_line_it_is_the_transport_cost_itself():
    x, y = RNG.normal(size=(6, 1)), RNG.normal(size=(6, 1)) * 2
    value = called(SlicedWasserstein(projections=1), x, y)
    assert float(value) == pytest.approx(ot.emd2_1d(x[:, 0], y[:, 0]), rel=1e-5)


def test_each_step_looks_along_other_lines():
    x, y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))
    few = SlicedWasserstein(projections=2)
    assert float(called(few, x, y)) != float(called(few, x, y, jax.random.key(6)))


def test_refusals():
    with pytest.raises(ConfigError, match="1 or more"):
        SlicedWasserstein(projections=0)
