"""Activations that are computed again: the same gradient from less memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax import resnet_cifar

from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.testing.world import ToyHead, world
from tlx.trees import flat
from tlx.types import Batch, Variables


def loss_of(model, batch):
    def loss(params, state):
        variables = Variables(params, state)
        found = model.apply(variables, batch, rng=jax.random.key(3), mode="train")
        return found.loss.mean(), found.state

    return loss


@pytest.mark.parametrize("frozen", [0, 1])
def test_gradient_and_statistics_are_the_same(frozen):
    """With dropout, which is drawn again as it was."""
    here = world(8)
    model = replace(here.model, frozen=frozen)
    one, other = (
        quick_jit(jax.value_and_grad(loss_of(replace(model, remat=how), here.batch), has_aux=True))(
            *here.variables
        )
        for how in (False, True)
    )
    for path, leaf in flat(one).items():
        np.testing.assert_allclose(flat(other)[path], leaf, rtol=1e-5, atol=1e-7, err_msg=path)


def kept(model, batch, variables):
    """Bytes that a pass keeps for the way back, beyond what went into it."""

    def passed(params, state):
        return jax.vjp(lambda params: loss_of(model, batch)(params, state)[0], params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(passed, *variables))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves if leaf.ndim == 4)


@pytest.fixture(scope="module")
def resnet():
    """ResNet-20, a batch, and abstract variables."""
    backbone = resnet_cifar.resnet20()
    inputs, targets = {"image": jnp.zeros((32, 32, 32, 3))}, {"label": jnp.zeros(32, int)}
    batch = Batch(inputs, targets, jnp.arange(32), jnp.ones(32))
    model = Model(backbone, ToyHead(), backbone.inputs)
    return model, batch, jax.eval_shape(model.init, jax.random.key(0), batch)


def test_a_staged_network_keeps_what_lies_between_stages(resnet):
    """Maps of 32 pictures: one behind each stage, of 32² x 16, 32² x 16, 16² x 32 and 8² x 64."""
    model, batch, variables = resnet
    between = 4 * 32 * (3 + 16 + 16) * 32**2 + 4 * 32 * 32 * 16**2
    most = kept(model, batch, variables)
    least = kept(replace(model, remat=True), batch, variables)
    kernels = sum(4 * leaf.size for leaf in jax.tree.leaves(variables.params) if leaf.ndim == 4)
    assert between <= least <= between + 2 * kernels
    assert most > 10 * least


def test_a_network_in_one_piece_keeps_products(resnet):
    """It has no stages to lie between."""
    model, batch, _ = resnet
    whole = replace(model, backbone=replace(model.backbone, stage_names=(), build=InOnePiece))
    shapes = jax.eval_shape(whole.init, jax.random.key(0), batch)
    most = kept(whole, batch, shapes)
    least = kept(replace(whole, remat=True), batch, shapes)
    assert least < 0.6 * most


class InOnePiece(resnet_cifar.CifarResNet):
    def __call__(self, x):
        features = {}
        for name in resnet_cifar.STAGES:
            x, new = self.stage(name, x)
            features |= new
        return features


def test_the_program_says_that_it_is_not_to_be_undone(resnet):
    """Each stage behind a barrier, without which the second pass would be merged with the first."""
    model, batch, variables = resnet
    slope = jax.grad(loss_of(replace(model, remat=True), batch), has_aux=True)
    text = jax.jit(slope).lower(*variables).as_text()
    assert text.count("optimization_barrier") >= len(model.backbone.stages)
    assert text.count("stablehlo.convolution") > 3 * 19  # forward, and back to input and kernel
