"""Sizes, names, stages and leaves of the registered ResNets."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax import resnet_cifar, resnet_imagenet, resnet_variants
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_image.pixels import normalize

from tlx import trees
from tlx.errors import ConfigError, ContractError
from tlx.protocols import Backbone, ForeignNames, Staged
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)

# He et al. and torchvision count the classifier, too: 64 or 512/2048 inputs, and a bias each.
CIFAR = {
    "resnet20": 269_722 - 650,
    "resnet32": 464_154 - 650,
    "resnet44": 658_586 - 650,
    "resnet56": 853_018 - 650,
}
IMAGENET = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
}
VARIANTS = {
    "resnet18d": 11_708_744 - 513_000,
    "resnet34d": 21_816_904 - 513_000,
    "resnet50d": 25_576_264 - 2_049_000,
    "resnet101d": 44_568_392 - 2_049_000,
    "wide_resnet50_2": 68_883_240 - 2_049_000,
    "wide_resnet101_2": 126_886_696 - 2_049_000,
    "resnext50_32x4d": 25_028_904 - 2_049_000,
    "resnext101_32x8d": 88_791_336 - 2_049_000,
}
EVERY = {
    **{name: getattr(resnet_cifar, name) for name in CIFAR},
    **{name: getattr(resnet_imagenet, name) for name in IMAGENET},
    **{name: getattr(resnet_variants, name) for name in VARIANTS},
}


@pytest.mark.parametrize(("name", "count"), [*(CIFAR | IMAGENET | VARIANTS).items()])
def test_parameters_are_the_published_number(name, count):
    shapes = jax.eval_shape(EVERY[name]().init, KEY, None)
    assert trees.count(shapes.params) == count
    assert f"{count:,} parameters" in EVERY[name].__doc__


def test_option_b_projects_where_the_shape_changes():
    shapes = jax.eval_shape(resnet_cifar.resnet20("B").init, KEY, None)
    extra = {path for path in trees.flat(shapes.params) if "shortcut" in path}
    assert {path.split("/")[0] for path in extra} == {"stage2", "stage3"}
    kernel = shapes.params["stage2"]["block0"]["shortcut"]["conv"]["kernel"]
    assert kernel.shape == (1, 1, 16, 32)


def test_a_backbone_is_a_value():
    make = resnet_cifar.resnet20
    assert make() == make("A")
    assert hash(make()) == hash(make("A"))
    assert make() != make("B")
    assert make() != resnet_cifar.resnet32()
    assert resnet_imagenet.resnet34() != resnet_imagenet.resnet50()
    assert all(isinstance(make(), contract) for contract in (Backbone, Staged, ForeignNames))


def test_equal_backbones_are_compiled_once():
    traces = []

    def run(backbone, x):
        traces.append(backbone)
        shapes = jax.eval_shape(backbone.init, KEY, x)
        return x + len(jax.tree.leaves(shapes))

    jitted = jax.jit(run, static_argnums=0)
    jitted(resnet_cifar.resnet20(), 0.0)
    jitted(resnet_cifar.resnet20(), 1.0)
    assert len(traces) == 1


def test_variables_are_plain_dicts_with_readable_paths():
    backbone = resnet_cifar.resnet20()
    params, state = quick_jit(backbone.init)(KEY, None)
    assert "stage1/block0/conv1/kernel" in trees.flat(params)
    assert "stage1/block0/bn1/scale" in trees.flat(params)
    assert "stage1/block0/bn1/mean" in trees.flat(state)
    nodes = [params, state]
    while nodes:
        node = nodes.pop()
        assert type(node) is dict or isinstance(node, jax.Array)
        nodes += node.values() if isinstance(node, dict) else ()
    kernel = params["stage3"]["block2"]["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), math.sqrt(2 / (9 * 64)), rtol=0.03)


def test_stages_in_turn_are_apply_to_the_bit():
    backbone = resnet_cifar.resnet20()
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)
    for mode in ("eval", "train"):
        # Not compiled as a whole, so that both run the same kernels.
        wanted, wanted_state = backbone.apply(params, state, x, rng=KEY, mode=mode)
        carry, got, stats = x, {}, state
        for number in range(len(backbone.stages)):
            carry, new, stats = backbone.apply_stages(
                params, stats, carry, start=number, stop=number + 1, rng=KEY, mode=mode
            )
            assert not got.keys() & new.keys()
            got |= new
        jax.tree.map(np.testing.assert_array_equal, (got, stats), (wanted, wanted_state))


def test_state_is_kept_as_it_is_unless_training():
    backbone = resnet_cifar.resnet20()
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)

    def keeps(params, state):
        for mode in ("eval", "tune"):
            assert backbone.apply(params, state, x, rng=KEY, mode=mode)[1] is state

    jax.eval_shape(keeps, params, state)

    @quick_jit
    def upper(params, state, carry):
        return backbone.apply_stages(params, state, carry, start=2, stop=4, rng=KEY, mode="train")

    _, features, moved = upper(params, state, jnp.ones((2, 8, 8, 16)))
    assert set(features) == {"stage2", "stage3", "pooled"}
    for path, leaf in trees.flat(moved).items():
        same = bool((leaf == trees.flat(state)[path]).all())
        assert same == path.startswith(("stem", "stage1"))


def test_leaf_tells_stage_and_kind():
    backbone = resnet_cifar.resnet20("B")
    assert backbone.leaf("stem/conv1/kernel")[:2] == ("stem", "kernel")
    assert backbone.leaf("stage2/block0/shortcut/bn/bias")[:2] == ("stage2", "norm")
    assert backbone.leaf("stage3/block2/bn2/scale")[:2] == ("stage3", "norm")
    with pytest.raises(ContractError, match="Did you mean 'stem/conv1/kernel'"):
        backbone.leaf("stem/conv1/kernal")


def test_without_tables_a_name_is_a_leaf_path():
    backbone = resnet_cifar.resnet20()
    assert isinstance(backbone, NnxBackbone)
    assert [dialect.name for dialect in backbone.dialects][:2] == ["timm", "akamaster"]
    assert replace(backbone, dialects=()).dialects == ()


@pytest.mark.parametrize(
    ("stem", "size", "strides"),
    [
        ("imagenet", 224, (2, 4, 8, 16, 32)),
        ("deep", 224, (2, 4, 8, 16, 32)),
        ("small", 32, (1, 1, 2, 4, 8)),
    ],
)
def test_a_stem_decides_size_and_strides(stem, size, strides):
    backbone = resnet_imagenet.resnet18(stem, channels=1)
    assert backbone.inputs.size == (size, size)
    x = jnp.zeros((0, size, size, 1))
    params, state = jax.eval_shape(backbone.init, KEY, x)
    assert params["stem"]["conv1"]["kernel"].shape[2] == 1
    features, _ = jax.eval_shape(
        lambda p, s, x: backbone.apply(p, s, x, rng=KEY, mode="eval"), params, state, x
    )
    assert tuple(spec.stride for spec in backbone.features[:-1]) == strides
    for spec in backbone.features[:-1]:
        assert features[spec.name].shape == (
            0,
            size // spec.stride,
            size // spec.stride,
            spec.channels,
        )


def test_pictures_with_other_channels():
    grey = resnet_cifar.resnet20(channels=1).inputs
    assert (grey.channels, grey.mean, grey.std) == (
        1,
        (pytest.approx(np.mean(resnet_cifar.resnet20().inputs.mean)),),
        (pytest.approx(np.mean(resnet_cifar.resnet20().inputs.std)),),
    )
    assert normalize(grey, jnp.zeros((2, 8, 8, 3), jnp.uint8)).shape == (2, 32, 32, 1)
    assert normalize(grey, jnp.zeros((2, 8, 8, 1), jnp.uint8)).shape == (2, 32, 32, 1)
    four = resnet_cifar.resnet20(channels=4).inputs
    assert normalize(four, jnp.zeros((2, 32, 32, 4))).shape == (2, 32, 32, 4)
    with pytest.raises(ConfigError, match="at least one channel"):
        resnet_cifar.resnet20(channels=0)
