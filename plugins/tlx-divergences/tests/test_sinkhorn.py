"""Sinkhorn divergence against POT's plans, value and gradient, and against closed forms."""

import sys
from functools import partial
from subprocess import run

import jax
import numpy as np
import ot
import pytest
from tlx_divergences.sinkhorn import Sinkhorn

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=(5, 3)) * 1.5 + 0.5


@partial(jax.jit, static_argnums=0)
def called(divergence, x, y):
    return divergence(features={"pooled": x}, domain_features={"pooled": y})


def entropic(x, y, epsilon):
    """POT's plan between equal masses, ⟨P,c⟩ + ε KL(P ‖ ab), and its derivative by x."""
    cost = ot.dist(x, y)
    a, b = ot.unif(len(x)), ot.unif(len(y))
    plan = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=20000, stopThr=1e-11)
    relative = np.sum(plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b)))
    slope = 2 * (plan.sum(1)[:, None] * x - plan @ y)
    return np.sum(plan * cost) + epsilon * relative, slope


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_value_and_gradient_are_those_of_pots_plans(share):
    """The plan of the symmetric problem counts twice, once on either side, so its ½ falls away."""
    assert asked(Sinkhorn()) == {"features", "domain_features"}
    epsilon = share * ot.dist(X, Y).mean()
    across, slope = entropic(X, Y, epsilon)
    here, own = entropic(X, X, epsilon)
    there, _ = entropic(Y, Y, epsilon)
    tight = Sinkhorn(epsilon=share, threshold=1e-11, iterations=20000)
    with jax.enable_x64(True):
        ours, found = jax.value_and_grad(called, 1)(tight, X, Y)
    assert float(ours) == pytest.approx(across - here / 2 - there / 2, rel=1e-9)
    np.testing.assert_allclose(found, slope - own, atol=1e-8)
    quick = called(Sinkhorn(epsilon=share), X.astype("f"), Y.astype("f"))
    assert float(quick) == pytest.approx(float(ours), rel=1e-3)


def test_a_shift_costs_its_square_at_any_epsilon():
    """⟨x − y, v⟩ is a sum of potentials, so OT_ε(x, x + v) = OT_ε(x, x) + ‖v‖²."""
    v = np.asarray([0.5, -1.0, 2.0])
    for share in (0.02, 0.3):
        value = called(Sinkhorn(epsilon=share), X, X + v)
        assert float(value) == pytest.approx(v @ v, rel=1e-3)


def test_between_transport_and_the_distance_of_means():
    """A small ε gives W₂², a large one ‖mean x − mean y‖²."""
    exact = ot.emd2(ot.unif(6), ot.unif(5), ot.dist(X, Y))
    near = called(Sinkhorn(epsilon=0.003, iterations=20000), X, Y)
    assert float(near) == pytest.approx(exact, rel=0.02)
    means = np.square(X.mean(0) - Y.mean(0)).sum()
    assert float(called(Sinkhorn(epsilon=1e3), X, Y)) == pytest.approx(means, rel=0.01)


def test_its_gradient_carries_one_sample_onto_the_other():
    """Descent from far away, without overlap, where a kernel of a fixed width would not see it."""
    goal = (Y + 30).astype("f")
    slope = jax.jit(jax.grad(called, 1), static_argnums=0)
    x = goal[::-1] * 0.1
    for _ in range(50):
        x = x - 0.25 * len(x) * slope(Sinkhorn(), x, goal)
    assert ot.emd2(ot.unif(5), ot.unif(5), ot.dist(np.asarray(x), goal)) < 0.05


def test_it_is_first_used_inside_of_jit_in_silence():
    """The dependency is imported while a step is traced: it must not warn or keep a tracer."""
    code = """
import jax, jax.numpy as jnp
from tlx_divergences.sinkhorn import Sinkhorn
import sys
assert "ott" not in sys.modules
f = lambda x: Sinkhorn()(features={"pooled": x}, domain_features={"pooled": x + 1})
x = jnp.ones((2, 2))
jax.jit(jax.grad(f)).lower(x)
print(float(jax.jit(f)(x)))
"""
    done = run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2.0\n", "")


def test_refusals():
    for wrong in ({"epsilon": 0.0}, {"threshold": -1.0}, {"iterations": 0}):
        with pytest.raises(ConfigError, match="must be above 0"):
            Sinkhorn(**wrong)
