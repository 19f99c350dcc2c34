"""Parallel residual adapters: against PyTorch's two convolutions, in our ResNets too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from tlx_image import ImageInput
from tlx_strategies.adapters import Adapters

from tlx import registry
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Reparametrises, Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world
from tlx.trees import flat
from tlx.types import unlabelled

KEY = jax.random.key(0)
HERE = world(8)
RNG = np.random.default_rng(0)


def tensor(array, *axes):
    return torch.from_numpy(np.array(array)).permute(*axes)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("size", "stride"), [((3, 3), 1), ((3, 3), 2), ((7, 7), 2), ((1, 3), 1)])
@pytest.mark.parametrize("front", [False, True])
def test_beside_a_convolution_is_at_its_centre(groups, size, stride, front):
    """Outputs behind, as Flax has them, and in front, as Equinox does."""
    shape = (8, 4 // groups, *size) if front else (*size, 4 // groups, 8)
    small = (8, 4 // groups, 1, 1) if front else (1, 1, 4 // groups, 8)
    kernel, adapter = (RNG.normal(size=s).astype(np.float32) / 6 for s in (shape, small))
    own = {"layer": {"weight": {"adapter": jnp.asarray(adapter)}}}
    params = {"backbone": {"layer": {"weight": jnp.asarray(kernel)}}, "strategy": own}
    whole = Adapters().effective(params)["backbone"]["layer"]["weight"]
    x = RNG.normal(size=(2, 9, 8, 4)).astype(np.float32)
    pads = [(side // 2, side // 2) for side in size]
    ours = lax.conv_general_dilated(
        x,
        whole,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "OIHW" if front else "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )
    order = (0, 1, 2, 3) if front else (3, 2, 0, 1)
    picture, conv = tensor(x, 0, 3, 1, 2), torch.nn.functional.conv2d
    how = {"stride": stride, "groups": groups}
    large = conv(picture, tensor(kernel, *order), padding=tuple(p for p, _ in pads), **how)
    beside = conv(picture, tensor(adapter, *order), **how)
    theirs = (large + beside).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


@pytest.fixture(scope="module")
def resnet():
    backbone = registry.build("backbones", "resnet20")
    model = Model(backbone, None, ImageInput())
    image = jnp.asarray(RNG.random((2, 16, 16, 3), np.float32))
    batch = unlabelled({"image": image})
    return model, quick_jit(model.init)(KEY, batch), batch


def test_in_a_resnet_with_its_strides_and_paddings(resnet):
    """Layer by layer: what a convolution says now is what it said and what its adapter says of the
    same pixels. Strides of 2 begin at the first pixel, which the padding of 1 makes the centre."""
    model, variables, batch = resnet
    strategy = Adapters()
    own = strategy.init(KEY, model, batch).params
    assert len(flat(own)) == 19
    own = jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape) / 8, "f4"), own)
    used = strategy.effective({**variables.params, "strategy": own})
    trace = quick_jit(lambda params: model.backbone.trace(params, *rest))
    rest = (variables.state["backbone"], batch.inputs["image"])
    now = trace(used["backbone"])
    stage = own["stage2"]["block0"]
    for name, before, stride in (
        ("conv1", now["stage1/block2"], 2),
        ("conv2", jax.nn.relu(now["stage2/block0/bn1"]), 1),
    ):
        kernel = variables.params["backbone"]["stage2"]["block0"][name]["kernel"]
        large = torch.nn.functional.conv2d(
            tensor(before, 0, 3, 1, 2), tensor(kernel, 3, 2, 0, 1), stride=stride, padding=1
        ).permute(0, 2, 3, 1)
        beside = np.asarray(before)[:, ::stride, ::stride] @ stage[name]["kernel"]["adapter"][0, 0]
        scale = np.abs(large.numpy()).max()
        ours = now[f"stage2/block0/{name}"]
        np.testing.assert_allclose(ours / scale, (large.numpy() + beside) / scale, atol=2e-6)


def test_it_starts_at_the_source_to_the_bit(resnet):
    model, variables, batch = resnet
    strategy = Adapters()
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, Reparametrises)
    own = strategy.init(KEY, model, batch).params
    params = {**variables.params, "strategy": own}
    jax.tree.map(np.testing.assert_array_equal, strategy.effective(params), params)
    slim = Adapters(targets=("*stage3*",)).init(KEY, model, batch).params
    assert set(slim) == {"stage3"}


def test_adapters_norms_and_head_move():
    strategy = Adapters()
    params = {
        **HERE.variables.params,
        "strategy": strategy.init(KEY, HERE.model, HERE.batch).params,
    }
    (planned,) = plan(strategy, HERE.model, params, 5)
    still = {path for path, moves in flat(planned.trainable).items() if not moves}
    stages = ("stage1", "stage2")
    assert still == {f"backbone/{s}/conv/{name}" for s in stages for name in ("kernel", "bias")}
    assert (planned.phase.norm, planned.model.frozen) == ("train", 0)
    (affine,) = plan(Adapters(norm="frozen_affine"), HERE.model, params, 5)
    moving = {path for path, moves in flat(affine.trainable).items() if moves}
    own = {f"strategy/{s}/conv/kernel/adapter" for s in stages}
    assert moving == {*own, "head/kernel", "head/bias"}


def test_refusals():
    """Windows of even size have no centre: a Vision Transformer's patches."""
    backbone = registry.build("backbones", "vit_tiny_patch16")
    vit = Model(backbone, None, backbone.inputs)
    batch = unlabelled({"image": jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)})
    with pytest.raises(ConfigError, match="and this backbone has none"):
        Adapters().init(KEY, vit, batch)
    with pytest.raises(ConfigError, match="Did you mean"):
        Adapters(targets=("backbone/stage1/conv/kernl",)).init(KEY, HERE.model, HERE.batch)
    with pytest.raises(ConfigError, match="no head"):
        Adapters().phases(Model(ToyBackbone(), None, ImageInput()), 1)
