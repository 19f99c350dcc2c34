"""Which networks can be masked, in what cells, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tlx_flax import resnet_cifar
from tlx_flax.convnext import convnext_tiny
from tlx_flax.nnx_backbone import wrap_nnx
from tlx_flax.resnet8 import resnet8
from tlx_flax.resnet_imagenet import resnet18, resnet50
from tlx_flax.squeezenet import squeezenet
from tlx_flax.visible import Visible, positions, visible_tokens
from tlx_flax.vit import vit_tiny_patch16
from tlx_image import ImageInput

from tlx.errors import ContractError, DataError
from tlx.protocols import Maskable
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)


def test_cells_become_positions_and_tokens_keep_their_order():
    cells = np.array([[[True, False, True], [False, True, False]]])
    visible = Visible(jnp.asarray(cells), 3)
    there = np.asarray(positions(visible, jnp.zeros((1, 4, 9, 2))))
    np.testing.assert_array_equal(there, np.kron(cells, np.ones((2, 3)))[..., None])
    tokens = visible_tokens(jnp.arange(6.0).reshape(1, 6, 1), visible)
    np.testing.assert_array_equal(tokens[0, :, 0], [0, 2, 4])


def test_a_cell_is_the_stride_of_the_deepest_map_or_a_patch():
    assert resnet_cifar.resnet56().cell == 4
    assert [resnet18(stem).cell for stem in ("small", "imagenet")] == [8, 32]
    assert [resnet50(stem).cell for stem in ("deep", "imagenet")] == [32, 32]
    assert vit_tiny_patch16().cell == 16
    assert isinstance(resnet50(), Maskable)


def test_others_cannot_be_masked_and_say_so():
    for backbone in (resnet8(), convnext_tiny(), squeezenet()):
        assert backbone.cell is None
        with pytest.raises(ContractError, match="cannot be masked layer by layer"):
            backbone.apply_visible(
                {}, {}, np.zeros((1, 8, 8, 3)), np.ones((1, 1, 1)), count=1, rng=KEY, mode="eval"
            )


def build(rngs):
    class Colours(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (2, 2), strides=2, padding="VALID", rngs=rngs)

        def __call__(self, x, visible=None):
            y = self.conv(x)
            return y if visible is None else jnp.where(positions(visible, y), y, 0)

    return Colours()


def test_a_wrapped_module_can_be_given_a_cell():
    inputs = ImageInput(size=(8, 8))
    assert wrap_nnx(build, ("map",), inputs).cell is None
    backbone = wrap_nnx(build, ("map",), inputs, cell=4)
    params, state = quick_jit(backbone.init)(KEY, None)
    cells, count = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], bool), 2
    features, _ = backbone.apply_visible(
        params, state, jnp.ones((2, 8, 8, 3)), cells, count=count, rng=KEY, mode="eval"
    )
    there = np.asarray(features["map"]).any(-1)
    np.testing.assert_array_equal(there, cells.repeat(2, 1).repeat(2, 2))


def test_pictures_and_masks_that_do_not_fit_are_refused():
    backbone = resnet_cifar.resnet20()
    shapes = jax.eval_shape(backbone.init, KEY, None)

    def run(x, visible):
        return backbone.apply_visible(*shapes, x, visible, count=1, rng=KEY, mode="eval")

    with pytest.raises(DataError, match=r"30 x 32.*cells of 4 x 4 .* multiple of 4"):
        run(jnp.zeros((1, 30, 32, 3)), np.ones((1, 8, 8), bool))
    with pytest.raises(DataError, match=r"must be \(1, 8, 8\)"):
        run(jnp.zeros((1, 32, 32, 3)), np.ones((1, 4, 4), bool))
