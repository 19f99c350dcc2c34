"""Minima that are known from elsewhere: solved linear equations, scikit-learn, symmetry."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tlx.numerics.newton_cg import minimise

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 8, Y[:300]
CLASSES = 10


def penalised(params, x, y, l2):
    """Multinomial logistic regression: mean cross-entropy plus half the squared kernel."""
    each = jax.nn.log_softmax(x @ params["kernel"] + params["bias"])
    task = -jnp.take_along_axis(each, y[:, None], 1).mean()
    return task + l2 / 2 * jnp.sum(params["kernel"] ** 2)


@jax.jit
def solve(start, x, y, l2):
    return minimise(lambda params: penalised(params, x, y, l2), start)


def fit(dtype, l2, x=X, y=Y):
    start = {"kernel": jnp.zeros((x.shape[1], CLASSES), dtype), "bias": jnp.zeros(CLASSES, dtype)}
    return solve(start, jnp.asarray(x, dtype), jnp.asarray(y), jnp.asarray(l2, dtype))


def objective(kernel, bias, l2, x=X, y=Y):
    """The same in numpy float64."""
    z = x @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)
    top = z.max(1)
    task = np.log(np.exp(z - top[:, None]).sum(1)) + top - z[np.arange(len(y)), y]
    return task.mean() + l2 / 2 * np.sum(np.asarray(kernel, np.float64) ** 2)


def sklearn_fit(l2, solver, x=X, y=Y):
    made = LogisticRegression(C=1 / (l2 * len(y)), solver=solver, tol=1e-9, max_iter=20_000)
    made.fit(x, y)
    return made.coef_.T, made.intercept_


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_optimum_of_scikit_learn(l2, dtype):
    with jax.enable_x64(dtype == np.float64):
        params, info = fit(dtype, l2)
        assert params["kernel"].dtype == dtype
    kernel, bias = sklearn_fit(l2, "newton-cg")
    ours, theirs = (
        objective(*(params[k] for k in ("kernel", "bias")), l2),
        objective(kernel, bias, l2),
    )
    assert ours <= theirs + 1e-8
    assert info.iterations < 50
    np.testing.assert_allclose(info.value, ours, rtol=1e-3 if dtype == np.float32 else 1e-9)
    if dtype == np.float64:
        assert info.converged
        # What is undetermined is a number added to every bias: scikit-learn centres them, too.
        np.testing.assert_allclose(params["kernel"], kernel, atol=1e-4 * np.abs(kernel).max())
        np.testing.assert_allclose(params["bias"], bias, atol=1e-4 * np.abs(kernel).max())


def test_the_optimum_of_another_method():
    kernel, bias = sklearn_fit(0.01, "lbfgs")
    with jax.enable_x64(True):
        params, _ = fit(np.float64, 0.01)
    difference = objective(params["kernel"], params["bias"], 0.01) - objective(kernel, bias, 0.01)
    assert -1e-8 < difference <= 1e-10


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-2, 1e2))
def test_a_quadratic_takes_one_newton_step(seed, scale):
    rng = np.random.default_rng(seed)
    root, b = scale * rng.normal(size=(12, 6)), rng.normal(size=6)
    hessian = root.T @ root + np.eye(6)
    with jax.enable_x64(True):
        found, info = quadratic(jnp.asarray(hessian), jnp.asarray(b), 1)
        assert info.iterations == 1
        np.testing.assert_allclose(found, np.linalg.solve(hessian, b), rtol=1e-6, atol=1e-9)
        _, info = quadratic(jnp.asarray(hessian), jnp.asarray(b), 100)
        assert info.converged
        assert info.iterations <= 2


@partial(jax.jit, static_argnums=2)
def quadratic(hessian, b, steps):
    def fun(x):
        return x @ hessian @ x / 2 - b @ x

    return minimise(fun, jnp.zeros_like(b), steps=steps, forcing=0.0)


@pytest.mark.parametrize("start", [0.5, 3.0, -40.0])
def test_steps_that_go_too_far_are_shortened(start):
    """A full Newton step on sqrt(1 + x^2) from |x| > 1 leads farther away: to -x^3."""
    found, info = jax.jit(lambda x: minimise(lambda x: jnp.sqrt(1 + x**2), x))(jnp.float32(start))
    assert info.converged
    np.testing.assert_allclose(found, 0, atol=1e-3)
    assert found.shape == ()


def test_any_tree():
    start = {"a": [jnp.ones((2, 3)), jnp.ones(())], "b": (jnp.ones(4),)}

    def fun(tree):
        return sum(
            jnp.sum((leaf - number) ** 2) for number, leaf in enumerate(jax.tree.leaves(tree))
        )

    found, info = minimise(fun, start)
    assert jax.tree.structure(found) == jax.tree.structure(start)
    for number, leaf in enumerate(jax.tree.leaves(found)):
        np.testing.assert_allclose(leaf, np.full(leaf.shape, number), atol=1e-5)
    np.testing.assert_allclose(info.gradient_norm, 0, atol=1e-5)


def test_many_at_once_are_each_alone():
    """Under vmap: other data, other penalties, other numbers of iterations."""
    l2, scale = np.array([1.0, 1e-1, 1e-2]), np.array([1.0, 0.5, 2.0])
    with jax.enable_x64(True):
        start = {"kernel": jnp.zeros((64, CLASSES)), "bias": jnp.zeros(CLASSES)}
        x = jnp.asarray(scale[:, None, None] * X)
        params, info = jax.vmap(solve, (None, 0, None, 0))(
            start, x, jnp.asarray(Y), jnp.asarray(l2)
        )
        for i in range(3):
            alone, about = fit(np.float64, l2[i], scale[i] * X)
            assert abs(int(info.iterations[i]) - int(about.iterations)) <= 1  # by rounding
            for name in alone:
                np.testing.assert_allclose(params[name][i], alone[name], atol=1e-5)
    assert len(set(np.asarray(info.iterations).tolist())) > 1


def test_separable_data_and_hardly_a_penalty():
    """Without the penalty the minimum is at infinity; with it there is one, and it is finite."""
    y = (np.arange(len(Y)) % 2).astype(Y.dtype)
    params, info = fit(np.float32, 1e-10, np.where(y, 1.0, -1.0)[:, None] * np.ones_like(X), y)
    assert np.isfinite(np.asarray(info)).all()
    assert np.isfinite(params["kernel"]).all()
    assert info.value < 1e-5


def test_nothing_to_do():
    for fun in (lambda x: jnp.sum(x**2), lambda x: jnp.float32(3.0) + 0 * x.sum()):
        found, info = minimise(fun, jnp.zeros(3))
        np.testing.assert_array_equal(found, np.zeros(3))
        assert info.converged
        assert info.iterations == 1


def test_large_units_are_not_mistaken_for_rounding():
    """A gradient of thousands, a value of which float32 shows little, and curvatures apart."""
    curvature = jnp.array([1e3, 1e2, 10.0, 1.0])
    found, info = minimise(lambda x: 1e6 + curvature @ (x - 3) ** 2, jnp.zeros(4))
    assert info.converged
    np.testing.assert_allclose(found, np.full(4, 3), rtol=1e-4)


def test_what_no_digit_can_show_is_not_waited_for():
    """A value of 1e6 in float32 has steps of 0.06."""
    found, info = minimise(lambda x: 1e6 + jnp.sum((x - 1) ** 2), jnp.full(3, 5.0))
    assert info.converged
    np.testing.assert_allclose(found, np.ones(3), atol=1e-5)


def test_no_minimum_is_not_claimed():
    found, info = minimise(lambda x: jnp.sum(x), jnp.zeros(2), steps=7)
    assert not info.converged
    assert info.iterations == 7
    assert np.isfinite(found).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_function_that_is_not_finite(bad):
    found, info = minimise(lambda x: bad * jnp.sum(x), jnp.ones(2))
    np.testing.assert_array_equal(found, np.ones(2))
    assert not info.converged
    assert info.iterations == 0


def test_a_step_out_of_the_domain_is_shortened():
    """x - log x, from where the full step leads below 0, which the logarithm does not know."""
    found, info = minimise(lambda x: x - jnp.log(x), jnp.float32(2.5))
    assert info.converged
    np.testing.assert_allclose(found, 1, atol=1e-3)


def test_accelerators_multiply_in_full():
    """TF32 and bfloat16 products, the default of some, would end far from the optimum."""
    start = {"kernel": jnp.zeros((64, CLASSES)), "bias": jnp.zeros(CLASSES)}
    program = str(jax.make_jaxpr(solve)(start, X.astype(np.float32), Y, jnp.float32(1)))
    assert program.count("HIGHEST") >= program.count("dot_general") > 0
