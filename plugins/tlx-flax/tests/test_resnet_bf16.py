"""A ResNet that computes in bfloat16: the same gradient up to its digits, float32 all around."""

import re
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax import resnet_cifar

from tlx import registry, trees
from tlx.model import Model
from tlx.planning.plan import Planned
from tlx.planning.refusals import precision as refuse
from tlx.protocols import Phase
from tlx.testing.compiling import quick_jit
from tlx.types import Batch, Variables, unlabelled

DIGITS = 2**-8
"""The unit in the last place of bfloat16, relative."""


@pytest.fixture(scope="module")
def setting():
    """A ResNet of 8 layers with a head, its numbers, and a batch."""
    backbone = resnet_cifar._resnet(1, "B", 3)
    model = Model(backbone, registry.build("heads", "softmax", {"classes": 4}), backbone.inputs)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.integers(0, 256, (16, 16, 16, 3), np.uint8))
    label = jnp.asarray(np.arange(16) % 4)
    batch = Batch({"image": image}, {"label": label}, jnp.arange(16), jnp.ones(16))
    return replace(model, inputs=replace(backbone.inputs, size=None)), batch


def slope(model, batch):
    def loss(params, state):
        variables = Variables(params, state)
        found = model.apply(variables, batch, rng=jax.random.key(1), mode="train")
        return found.loss.mean(), found

    return jax.value_and_grad(loss, has_aux=True), model.init(jax.random.key(0), batch)


@pytest.fixture(scope="module")
def both(setting):
    """In float32 and in bf16: ((loss, Forward), gradient)."""
    model, batch = setting
    found = {}
    for how in ("float32", "bf16"):
        function, variables = slope(replace(model, precision=how), batch)
        found[how] = quick_jit(function)(*variables)
    return found


def test_the_gradient_points_the_same_way(both):
    one, other = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(both[how][1]["backbone"])])
        for how in ("float32", "bf16")
    )
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine > 0.98
    assert cosine < 1 - 1e-7, "nothing was rounded"
    for path, leaf in trees.flat(both["bf16"][1]).items():
        assert leaf.dtype == jnp.float32, path


def test_what_leaves_the_backbone_is_float32_and_has_its_digits(both):
    (one, exact), (other, low) = (both[how][0] for how in ("float32", "bf16"))
    np.testing.assert_allclose(other, one, rtol=0.02)
    for now, then in ((low.features, exact.features), (low.outputs, exact.outputs)):
        for path, leaf in trees.flat(now).items():
            assert leaf.dtype == jnp.float32, path
            wanted = trees.flat(then)[path]
            assert np.abs(leaf - wanted).max() < 16 * DIGITS * np.abs(wanted).max(), path


def test_batch_statistics_are_float32(both):
    low, exact = (trees.flat(both[how][0][1].state) for how in ("bf16", "float32"))
    for path, leaf in low.items():
        assert leaf.dtype == jnp.float32, path
        assert np.abs(leaf - exact[path]).max() < 4 * DIGITS * np.abs(exact[path]).max(), path
        # Not rounded at the end: their last bits are in use.
        assert np.any(np.asarray(leaf).view(np.uint32) & 0xFFFF), path


@pytest.mark.parametrize("how", ["bf16", "float32"])
def test_every_product_takes_operands_of_the_precision(setting, how):
    model, batch = setting
    function, variables = slope(replace(model, precision=how), batch)
    text = jax.jit(function).lower(*variables).as_text()
    found = r"stablehlo\.(?:convolution|dot_general).*: \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>"
    operands = re.findall(found, text)
    backbone = 3 * 9 - 1  # one before, two in each of three blocks, two projections; no picture's
    own, head = ("bf16" if how == "bf16" else "f32",) * 2, ("f32",) * 2
    assert Counter(operands) == Counter([own] * backbone + [head] * 3)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet18d", ""),
        ("vit_tiny_patch16", ""),
        ("resnet8", "it gives 'stem' in float32 all the same, because a layer before it"),
    ],
)
def test_who_can_and_who_is_refused(name, why):
    backbone = registry.build("backbones", name, {})
    model = Model(backbone, None, backbone.inputs)
    size = backbone.inputs.size or (64, 64)
    batch = unlabelled({"image": jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)})
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    phase = Phase(name="p", steps=1, group=str, forward=lambda *_: None)
    planned = Planned(phase, replace(model, precision="bf16"), None, None, 0)
    if why:
        with pytest.raises(Exception, match=why):
            refuse((planned,), variables, batch)
    else:
        refuse((planned,), variables, batch)
