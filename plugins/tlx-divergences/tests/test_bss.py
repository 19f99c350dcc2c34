"""Batch spectral shrinkage against torch's singular values and their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.bss import BSS

from tlx.errors import ConfigError
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit


def one(matrix, k=1):
    return BSS(k=k)(features={"pooled": matrix})


bss = quick_jit(one, static_argnames="k")
with_slope = quick_jit(jax.value_and_grad(one), static_argnames="k")


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (1, 4), (4, 1)])
@pytest.mark.parametrize("k", [1, 3])
def test_value_and_gradient_are_torchs(shape, k):
    assert asked(BSS()) == {"features"}
    k = min(k, *shape)
    matrix = np.random.default_rng(0).normal(size=shape)
    theirs = torch.tensor(matrix, requires_grad=True)
    value = torch.linalg.svdvals(theirs)[-k:].square().sum()
    value.backward()
    with jax.enable_x64(True):
        ours, slope = with_slope(matrix, k=k)
        assert float(ours) == pytest.approx(value.item(), rel=1e-10)
        np.testing.assert_allclose(slope, theirs.grad, atol=1e-10)


def test_single_precision_is_exact_relative_to_the_largest_value():
    matrix = np.random.default_rng(1).normal(size=(32, 64)) + 3
    values = np.linalg.svd(matrix, compute_uv=False)
    assert float(bss(matrix.astype(np.float32))) == pytest.approx(
        values[-1] ** 2, abs=1e-6 * values[0] ** 2
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_order_and_coordinates_do_not_matter_and_a_copy_of_the_batch_doubles_it(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(6, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    with jax.enable_x64(True):
        value = float(bss(matrix, k=2))
        assert value >= 0
        assert float(bss(matrix[rng.permutation(6)] @ turn, k=2)) == pytest.approx(value, rel=1e-9)
        assert float(bss(np.concatenate([matrix, matrix]), k=2)) == pytest.approx(
            2 * value, rel=1e-9
        )


def test_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(2)
    matrix, step = rng.normal(size=(5, 7)), 1e-6 * rng.normal(size=(5, 7))
    with jax.enable_x64(True):
        slope = with_slope(matrix, k=2)[1]
        risen = float(bss(matrix + step, k=2) - bss(matrix - step, k=2)) / 2
        assert risen == pytest.approx(float(jnp.vdot(slope, step)), rel=1e-6)


def test_equal_singular_values_have_a_finite_gradient():
    """Any two of the four may be pressed, each by 2 u v': the gradient's own values are 2 and 2."""
    basis, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 4)))
    value, slope = with_slope(basis, k=2)
    assert float(value) == pytest.approx(2, rel=1e-5)
    values = np.linalg.svd(slope, compute_uv=False)
    np.testing.assert_allclose(values, [2, 2, 0, 0], atol=1e-4)


@pytest.mark.parametrize(
    "matrix", [np.zeros((4, 6)), np.ones((4, 6)), np.eye(6)[:4] * [1, 1, 0, 0, 0, 0]]
)
def test_what_the_batch_does_not_use_at_all_is_at_zero(matrix):
    value, slope = with_slope(matrix, k=2)
    assert float(value) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(slope, 0, atol=1e-2)


def test_descent_along_it_takes_the_smallest_direction_away():
    matrix = jnp.asarray(np.random.default_rng(4).normal(size=(8, 3)))
    before = np.linalg.svd(matrix, compute_uv=False)

    @quick_jit
    def descend(matrix):
        return jax.lax.fori_loop(0, 50, lambda _, m: m - 0.1 * jax.grad(one)(m), matrix)

    after = np.linalg.svd(descend(matrix), compute_uv=False)
    np.testing.assert_allclose(after[:2], before[:2], rtol=1e-4)
    assert after[2] < 1e-3 * before[2]


def test_maps_are_flattened():
    matrix = jnp.asarray(np.random.default_rng(5).normal(size=(3, 8)))
    found = BSS("deep")(features={"deep": matrix.reshape(3, 2, 2, 2)})
    assert float(found) == pytest.approx(float(bss(matrix)), rel=1e-6)


def test_refusals():
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        BSS(k=0)
    with pytest.raises(ConfigError, match="4 examples and 3 numbers has 3"):
        bss(np.ones((4, 3)), k=4)
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        BSS("poled")(features={"pooled": jnp.ones((4, 3))})
