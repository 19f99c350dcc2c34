"""The depthwise convolution against PyTorch's and against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_flax.depthwise_conv import _grouped, depthwise_conv

from tlx.testing.compiling import quick_jit


def numbers(size, shape=(2, 9, 6, 5)):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(size, size, 1, shape[-1]))
    return [a.astype(np.float32) for a in (rng.normal(size=shape), kernel, rng.normal(size=shape))]


# Kernels larger than the map, too.
@pytest.mark.parametrize("size", [1, 3, 7, 11])
def test_values_and_gradients_are_pytorchs(size):
    x, kernel, slope = numbers(size)
    picture = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    y = torch.nn.functional.conv2d(picture, weight, padding=size // 2, groups=5)
    y.backward(torch.tensor(np.moveaxis(slope, -1, 1).copy()))

    @quick_jit
    def both(x, kernel, slope):
        got, back = jax.vjp(depthwise_conv, x, kernel)
        return got, *back(slope)

    got, for_x, for_kernel = both(x, kernel, slope)
    np.testing.assert_allclose(got, np.moveaxis(y.detach().numpy(), 1, -1), atol=1e-4)
    np.testing.assert_allclose(for_x, np.moveaxis(picture.grad.numpy(), 1, -1), atol=1e-4)
    np.testing.assert_allclose(for_kernel, weight.grad.numpy().transpose(2, 3, 1, 0), atol=1e-4)


def test_it_is_what_other_backends_compute():
    x, kernel, _ = numbers(7)
    np.testing.assert_allclose(depthwise_conv(x, kernel), _grouped(x, kernel), atol=1e-4)


def test_it_goes_through_vmap_and_second_derivatives():
    x, kernel, _ = numbers(3)

    def energy(f):
        return lambda kernel: (f(x, kernel) ** 3).sum()

    two = np.stack([kernel, 2 * kernel])
    got = quick_jit(jax.vmap(jax.grad(energy(depthwise_conv))))(two)
    wanted = quick_jit(jax.vmap(jax.grad(energy(_grouped))))(two)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-2)

    def penalty(f):
        return lambda kernel: (jax.grad(energy(f))(kernel) ** 2).sum()

    got, wanted = (quick_jit(jax.grad(penalty(f)))(kernel) for f in (depthwise_conv, _grouped))
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_it_keeps_the_type(dtype):
    x, kernel, _ = (jnp.asarray(a, dtype) for a in numbers(3))
    assert depthwise_conv(x, kernel).dtype == dtype
