"""Max-pooling against PyTorch: values, gradients, sizes that do not divide, ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax.max_pool import max_pool

from tlx.testing.compiling import quick_jit

SHAPES = [
    # window, stride, padding, height, width
    (3, 2, 1, 8, 8),
    (3, 2, 1, 7, 9),
    (3, 2, 0, 8, 7),
    (2, 2, 0, 7, 6),
    (3, 1, 1, 5, 6),
    (5, 3, 2, 11, 10),
    (2, 3, 0, 10, 9),
]


def both(x, gradient, window, stride, padding):
    torch = pytest.importorskip("torch")
    t = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    y = torch.nn.functional.max_pool2d(t, window, stride, padding)
    y.backward(torch.tensor(np.moveaxis(gradient, -1, 1)))
    return np.moveaxis(y.detach().numpy(), 1, -1), np.moveaxis(t.grad.numpy(), 1, -1)


@pytest.mark.parametrize(("window", "stride", "padding", "height", "width"), SHAPES)
def test_values_and_gradients_are_pytorchs(window, stride, padding, height, width):
    @quick_jit
    def ours(x, gradient):
        y, back = jax.vjp(lambda x: max_pool(x, window, stride, padding), x)
        return y, back(gradient)[0]

    random = np.random.default_rng(0)
    x = random.normal(size=(2, height, width, 3)).astype(np.float32)
    shape = jax.eval_shape(lambda x: max_pool(x, window, stride, padding), x).shape
    gradient = random.normal(size=shape).astype(np.float32)
    # Without ties, and with few distinct values and, as behind a relu, many zeros.
    for case in (x, np.maximum(np.round(x), 0)):
        y, back = ours(case, gradient)
        wanted, wanted_back = both(case, gradient, window, stride, padding)
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_allclose(back, wanted_back, atol=1e-6)


def test_second_derivatives_agree_in_both_orders():
    x = jax.random.normal(jax.random.key(0), (1, 7, 7, 2))
    v = jax.random.normal(jax.random.key(1), x.shape)

    def f(x):
        return (max_pool(x, 3, 2, 1) ** 3).sum()

    forward = quick_jit(lambda x: jax.jvp(jax.grad(f), (x,), (v,))[1])(x)
    reverse = quick_jit(jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), v)))(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-5, atol=1e-5)


def test_half_precision_and_vmap():
    x = jax.random.normal(jax.random.key(0), (3, 2, 8, 8, 4), jnp.bfloat16)
    grad = jax.grad(lambda x: max_pool(x, 3, 2, 1).astype(jnp.float32).sum())
    together = quick_jit(jax.vmap(grad))(x)
    assert together.dtype == jnp.bfloat16
    np.testing.assert_array_equal(together[1], quick_jit(grad)(x[1]))
