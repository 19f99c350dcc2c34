"""Sizes, stages, leaves, random layers and refusals of the Vision Transformers."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax import vit as module
from tlx_flax.vit import vit, vit_tiny_patch16

from tlx import registry, trees
from tlx.errors import ConfigError
from tlx.protocols import Backbone, ForeignNames, Staged
from tlx.testing import check
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)
SMALL = {"size": 16, "patch": 4, "width": 24, "heads": 3, "depth": 2}

# timm's, with a classifier of a thousand classes.
PUBLISHED = {
    "vit_tiny_patch16": 5_717_416,
    "vit_small_patch16": 22_050_664,
    "vit_small_patch32": 22_878_952,
    "vit_base_patch16": 86_567_656,
    "vit_base_patch32": 88_224_232,
}
# DINO's (patch 8), and DINOv2's (patch 14, 37 x 37 positions, layer scale), whose number counts a
# mask token, too; both without a classifier.
BODIES = {
    ("vit_small_patch8", ()): 21_670_272,
    ("vit_base_patch8", ()): 85_807_872,
    ("vit_small_patch14", (("size", 518), ("layer_scale", 1e-5))): 22_056_576 - 384,
    ("vit_base_patch14", (("size", 518), ("layer_scale", 1e-5))): 86_580_480 - 768,
}


def numbers(backbone):
    shapes = jax.eval_shape(backbone.init, KEY, None)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_number(name):
    backbone = getattr(module, name)()
    width = backbone.features[-1].channels
    assert numbers(backbone) + 1000 * width + 1000 == PUBLISHED[name]


@pytest.mark.parametrize(("name", "options"), BODIES)
def test_bodies_are_of_the_published_number(name, options):
    assert numbers(getattr(module, name)(**dict(options))) == BODIES[name, options]


def test_every_name_is_registered_and_takes_the_options_of_vit():
    names = [name for name in vars(module) if name.startswith("vit_")]
    assert len(names) == 9
    general = inspect.signature(vit).parameters
    for name in names:
        factory = registry.load("backbones", name)
        assert factory is getattr(module, name)
        own = inspect.signature(factory).parameters
        assert own.keys() == general.keys() - {"patch", "width", "heads", "depth"}
        assert own["size"].default == 224
        assert all(own[key].default == general[key].default for key in own if key != "size")


def test_a_backbone_is_a_value():
    assert vit_tiny_patch16() == vit_tiny_patch16(size=224)
    assert hash(vit_tiny_patch16()) == hash(vit_tiny_patch16())
    assert vit_tiny_patch16() == vit(size=224, patch=16, width=192, heads=3, depth=12)
    for other in ({"size": 32}, {"eps": 1e-12}, {"pool": "mean"}, {"channels": 1}):
        assert vit_tiny_patch16(**other) != vit_tiny_patch16()
    contracts = (Backbone, Staged, ForeignNames)
    assert all(isinstance(vit_tiny_patch16(), contract) for contract in contracts)


def test_features_and_stages_lie_shallow_to_deep():
    backbone = vit_tiny_patch16(size=64, registers=4)
    blocks = [f"block{number}" for number in range(12)]
    assert [spec.name for spec in backbone.features] == [
        "embed", *blocks, "tokens", "cls", "pooled",
    ]  # fmt: skip
    assert backbone.stages == ("embed", *blocks, "norm")
    assert backbone.inputs.size == (64, 64)
    assert backbone.inputs.interpolation == "bicubic"
    shapes = jax.eval_shape(backbone.init, KEY, None)
    x = jnp.zeros((3, 64, 64, 3))
    features, _ = jax.eval_shape(
        lambda v, x: backbone.apply(v.params, v.state, x, rng=KEY, mode="eval"), shapes, x
    )
    for spec in backbone.features:
        shape = (3, 192) if spec.kind == "vector" else (3, 1 + 4 + 16, 192)
        assert features[spec.name].shape == shape
    assert jax.tree.leaves(shapes.state) == []


def test_leaf_tells_stage_and_kind():
    backbone = vit(**SMALL, layer_scale=0.1, registers=2)
    kinds = {
        "embed/patch/kernel": "kernel",
        "embed/patch/bias": "bias",
        "embed/class_embedding": "embedding",
        "embed/position_embedding": "embedding",
        "embed/register_embedding": "embedding",
        "block1/norm1/scale": "norm",
        "block1/norm2/bias": "norm",
        "block0/attention/query/kernel": "kernel",
        "block0/attention/out/bias": "bias",
        "block0/layer_scale1/scale": "norm",
        "block1/mlp/fc2/kernel": "kernel",
        "norm/scale": "norm",
        "norm/bias": "norm",
    }
    assert {path: backbone.leaf(path).kind for path in kinds} == kinds
    assert all(backbone.leaf(path).stage == path.split("/")[0] for path in kinds)
    shapes = jax.eval_shape(backbone.init, KEY, None).params
    every = {path: backbone.leaf(path).kind for path in trees.flat(shapes)}
    assert sum(kind == "kernel" for kind in every.values()) == 1 + 2 * 6
    assert sum(kind == "embedding" for kind in every.values()) == 3


def test_fresh_numbers_are_those_of_timm():
    params, _ = quick_jit(vit(size=32, patch=4, width=96, heads=3, depth=1, layer_scale=0.1).init)(
        KEY, None
    )
    leaves = trees.flat(params)
    for path in (
        "embed/position_embedding",
        "block0/attention/key/kernel",
        "block0/mlp/fc1/kernel",
    ):
        np.testing.assert_allclose(leaves[path].std(), 0.02, rtol=0.05)
    assert 0 < jnp.abs(leaves["embed/class_embedding"]).max() < 1e-5
    assert all((leaf == 0).all() for path, leaf in leaves.items() if path.endswith("bias"))
    assert (leaves["block0/layer_scale2/scale"] == np.float32(0.1)).all()


def test_the_kit_finds_nothing_where_everything_is_on():
    options = {"dropout": 0.1, "drop_path": 0.2, "layer_scale": 0.1, "registers": 2, "channels": 1}
    ran = check("backbones", lambda: vit(**{**SMALL, "depth": 1}, **options, pool="mean"))
    assert {"check_gradient", "check_stages_equal_apply", "check_jit_equals_eager"} <= {*ran}


def test_stochastic_depth_leaves_out_whole_branches_of_a_picture():
    # One block of two is never left out: the rate rises from zero.
    backbone = vit(**SMALL, drop_path=0.5, layer_scale=1.0)
    params, state = quick_jit(backbone.init)(KEY, None)
    x = np.random.default_rng(0).normal(size=(64, 16, 16, 3)).astype(np.float32)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    still = apply(params, state, x, rng=KEY, mode="eval")[0]
    moved = apply(params, state, x, rng=KEY, mode="tune")[0]
    np.testing.assert_allclose(moved["block0"], still["block0"], atol=1e-6)
    same = np.abs(moved["block1"] - moved["block0"]).max((1, 2)) < 1e-7
    # Both branches of the second block are gone with probability 1/4.
    assert 0.1 < same.mean() < 0.4
    # A branch that stays counts double.
    params["block1"]["layer_scale2"]["scale"] *= 0
    branch = np.asarray(apply(params, state, x, rng=KEY, mode="eval")[0]["block1"])
    branch -= still["block0"]
    moved = apply(params, state, x, rng=KEY, mode="train")[0]["block1"] - moved["block0"]
    share = (moved * branch).sum((1, 2)) / (branch * branch).sum((1, 2))
    assert {*np.round(np.asarray(share), 3).tolist()} == {0.0, 2.0}


def test_dropout_draws_anew_for_every_number():
    backbone = vit(**{**SMALL, "depth": 1}, dropout=0.5)
    params, state = quick_jit(backbone.init)(KEY, None)
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    still, moved = (apply(params, state, x, rng=KEY, mode=mode)[0] for mode in ("eval", "train"))
    kept = np.asarray(moved["embed"] != 0)
    assert 0.45 < kept.mean() < 0.55
    np.testing.assert_allclose(moved["embed"][kept], 2 * still["embed"][kept], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 20, "patch": 16}, "size = 20 must be a multiple of patch = 16"),
        ({"size": 0}, "size = 0 must be a multiple"),
        ({"patch": 0}, "patch = 0"),
        ({"width": 25, "heads": 3}, "width = 25 must be a multiple of heads = 3"),
        ({"heads": 0}, "heads = 0"),
        ({"depth": 0}, "depth = 0"),
        ({"dropout": 1.0}, "dropout = 1.0 must be from 0 to below 1"),
        ({"drop_path": -0.1}, "drop_path = -0.1 must be"),
        ({"registers": -1}, "registers = -1 must not be negative"),
        ({"layer_scale": -1.0}, "layer_scale = -1.0 must not"),
        ({"channels": 0}, "channels = 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, what):
    with pytest.raises(ConfigError, match=what):
        vit(**{**SMALL, **options})


def test_pictures_of_another_size_are_refused():
    backbone = vit(**SMALL)
    shapes = jax.eval_shape(backbone.init, KEY, None)
    with pytest.raises(ConfigError, match=r"at 32 x 32, .* are for 16 x 16. Set size = 32"):
        jax.eval_shape(
            lambda v, x: backbone.apply(v.params, v.state, x, rng=KEY, mode="eval"),
            shapes,
            jnp.zeros((1, 32, 32, 3)),
        )
