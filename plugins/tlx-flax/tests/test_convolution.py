"""Convolutions against PyTorch's and against XLA's own, in each of the ways that a CPU takes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_flax.convolution import NARROW, PART, convolution, plain

from tlx.testing.compiling import quick_jit


# One picture in the last part; no more than a part; too wide for parts; groups.
# Maps that lie under the window whole, or nearly.
@pytest.mark.parametrize(
    ("picture", "size", "cin", "stride", "groups"),
    [
        ((2, 9, 6), 1, 5, 1, 1), ((2, 9, 6), 1, 5, 3, 1), ((PART + 1, 9, 6), 3, 4, 1, 1),
        ((2 * PART, 9, 6), 3, 4, 2, 1), ((PART, 9, 6), 3, 4, 1, 1),
        ((PART + 1, 9, 6), 3, NARROW, 1, 1), ((2, 9, 6), 3, 4, 2, 2), ((2, 9, 6), 1, 4, 1, 2),
        ((3, 2, 2), 3, 5, 1, 1), ((3, 2, 2), 3, 5, 2, 1), ((PART + 1, 2, 1), 3, 4, 1, 1),
        ((3, 1, 1), 3, 4, 1, 1), ((3, 4, 3), 7, 3, 2, 1), ((3, 3, 3), 3, 4, 1, 2),
        ((3, 3, 2), 3, 4, 2, 2), ((3, 2, 2), 3, 6, 1, 6),
    ],
)  # fmt: skip
def test_values_and_gradients_are_pytorchs(picture, size, cin, stride, groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*picture, cin)).astype(np.float32)
    kernel = rng.normal(size=(size, size, cin // groups, 6)).astype(np.float32)
    picture = torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    y = torch.nn.functional.conv2d(picture, weight, stride=stride, padding=size // 2, groups=groups)
    (y**2).sum().backward()
    wanted = (
        y.detach().numpy().transpose(0, 2, 3, 1),
        picture.grad.numpy().transpose(0, 2, 3, 1),
        weight.grad.numpy().transpose(2, 3, 1, 0),
    )
    for way in (convolution, plain):
        ours = partial(way, stride=stride, groups=groups)
        slopes = jax.grad(lambda x, kernel, ours=ours: (ours(x, kernel) ** 2).sum(), (0, 1))
        got = (quick_jit(ours)(x, kernel), *quick_jit(slopes)(x, kernel))
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(("size", "parts"), [(3, 3), (1, 1)])
def test_the_weight_gradient_goes_in_parts_on_the_cpu(size, parts):
    """And a single matrix product where that is what it is."""

    def loss(kernel, x):
        return (convolution(x, kernel) ** 2).sum()

    shapes = jnp.zeros((size, size, 4, 4)), jnp.zeros((2 * PART + 1, 8, 8, 4))
    text = jax.jit(jax.grad(loss)).lower(*shapes).as_text()
    found = text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")
    if jax.default_backend() == "cpu":
        assert found == ((1 + parts, 0) if size > 1 else (0, 2))
    else:
        assert found == (2, 0)


@pytest.mark.parametrize(("side", "groups", "product"), [(2, 1, True), (3, 1, False), (3, 2, True)])
def test_a_small_map_is_a_product_on_the_cpu(side, groups, product):
    shapes = jnp.zeros((2, side, side, 4)), jnp.zeros((3, 3, 4 // groups, 4))
    text = jax.jit(partial(convolution, groups=groups)).lower(*shapes).as_text()
    on_cpu = jax.default_backend() == "cpu"
    assert ("stablehlo.convolution" not in text) == (product and on_cpu)


def test_it_goes_through_vmap_and_second_derivatives():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(PART + 2, 5, 5, 2)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 2, 3)).astype(np.float32)

    def slope(way):
        return jax.grad(lambda kernel: (way(x, kernel) ** 3).sum())

    two = np.stack([kernel, 2 * kernel])
    got, wanted = (quick_jit(jax.vmap(slope(way)))(two) for way in (convolution, plain))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())

    def penalty(way):
        return jax.grad(lambda kernel: (slope(way)(kernel) ** 2).sum())

    got, wanted = (quick_jit(penalty(way))(kernel) for way in (convolution, plain))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
