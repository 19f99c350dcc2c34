"""The 1x1 convolution against PyTorch's and against XLA's own."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from tlx_flax.pointwise_conv import convolution, pointwise_conv

from tlx.testing.compiling import quick_jit


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_values_and_gradients_are_pytorchs_and_xlas(stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 6, 5)).astype(np.float32)
    kernel = rng.normal(size=(1, 1, 5, 7)).astype(np.float32)
    picture = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    y = torch.nn.functional.conv2d(picture, weight, stride=stride)
    (y**3).sum().backward()

    for ours in (partial(pointwise_conv, stride=stride), partial(convolution, stride)):
        slopes = jax.grad(lambda x, kernel, ours=ours: (ours(x, kernel) ** 3).sum(), (0, 1))
        got, (for_x, for_kernel) = quick_jit(ours)(x, kernel), quick_jit(slopes)(x, kernel)
        np.testing.assert_allclose(
            got, np.moveaxis(y.detach().numpy(), 1, -1), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(
            for_x, np.moveaxis(picture.grad.numpy(), 1, -1), rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            for_kernel, weight.grad.numpy().transpose(2, 3, 1, 0), rtol=1e-4, atol=1e-2
        )
