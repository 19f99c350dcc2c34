"""ConvNeXt against transformers' with the same weights; names of three kinds of files."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from tlx_flax.convnext import (
    STAGES,
    ConvNeXt,
    convnext,
    convnext_base,
    convnext_small,
    convnext_tiny,
)
from tlx_flax.convnext_names import CONVNEXT_DIALECTS

from tlx import trees
from tlx.errors import ConfigError
from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)
DEPTHS, WIDTHS, CLASSES = (1, 1, 2, 1), (8, 16, 24, 40), 5
SIZES = (
    (convnext_tiny, (3, 3, 9, 3), (96, 192, 384, 768), 28_589_128),
    (convnext_small, (3, 3, 27, 3), (96, 192, 384, 768), 50_223_688),
    (convnext_base, (3, 3, 27, 3), (128, 256, 512, 1024), 88_591_464),
)
"""The numbers of parameters are torchvision's, with the classifier of 1000 classes."""


@cache
def theirs():
    """transformers' network with random numbers everywhere, layer scale included."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    torch.manual_seed(0)
    config = ConvNextConfig(
        depths=list(DEPTHS),
        hidden_sizes=list(WIDTHS),
        num_labels=CLASSES,
        layer_norm_eps=1e-6,
    )
    network = ConvNextForImageClassification(config).eval()
    for tensor in network.parameters():
        tensor.data.normal_(0, 0.3)
    return network


def like(backbone):
    """Abstract variables of the backbone with a linear head."""
    body = jax.eval_shape(backbone.init, KEY, None)
    width = backbone.features[-1].channels
    head = {
        "kernel": jax.ShapeDtypeStruct((width, CLASSES), jnp.float32),
        "bias": jax.ShapeDtypeStruct((CLASSES,), jnp.float32),
    }
    return Variables({"backbone": body.params, "head": head}, {"backbone": body.state})


def loaded(backbone, tensors):
    """Variables with every leaf from the tensors, and every tensor used."""
    named = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    variables, report = match(Tensors(named, "the test"), like(backbone), backbone.dialects)
    assert report.initialised == report.skipped == ()
    return variables, report


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)


def slopes(network):
    """PyTorch's gradients under the names of the tensors; the classifier's are zero."""
    found = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    return found | {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_features_and_gradients_are_those_of_transformers():
    network, backbone = theirs(), convnext(DEPTHS, WIDTHS)
    variables, report = loaded(backbone, network.state_dict())
    assert report.dialect == "transformers"
    rng = np.random.default_rng(0)
    # Not a multiple of the stride, so that what is left at the edges shows.
    x = rng.normal(size=(2, 70, 66, 3)).astype(np.float32)
    weights = rng.normal(size=(2, WIDTHS[-1])).astype(np.float32)

    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(params):
        features, _ = backbone.apply(params, {}, x, rng=KEY, mode="eval")
        return (features["pooled"] * weights).sum(), features

    (_, features), got = run(variables.params["backbone"])
    picture = torch.tensor(np.moveaxis(x, -1, 1).copy())
    wanted = network.convnext(picture, output_hidden_states=True)
    network.zero_grad()
    (wanted.pooler_output * torch.tensor(weights)).sum().backward()
    maps = [np.moveaxis(h.detach().numpy(), 1, -1) for h in wanted.hidden_states]
    for name, feature in zip(STAGES, maps, strict=True):
        near(features[name], feature)
    near(features["pooled"], wanted.pooler_output.detach().numpy())

    steep = trees.flat(loaded(backbone, slopes(network))[0].params["backbone"])
    assert set(trees.flat(got)) == set(steep)
    for path, slope in trees.flat(got).items():
        scale = np.abs(steep[path]).max()
        np.testing.assert_allclose(slope, steep[path], atol=1e-3 * scale, rtol=0, err_msg=path)


@pytest.mark.parametrize("dialect", CONVNEXT_DIALECTS, ids=lambda d: d.name)
def test_names_go_out_and_come_back_to_the_bit(dialect):
    backbone = convnext(DEPTHS, WIDTHS)
    network = theirs()
    variables, _ = loaded(backbone, network.state_dict())
    tensors = state_dict(variables, dialect)
    back, report = loaded(backbone, tensors)
    assert report.dialect == dialect.name
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    if dialect.name == "transformers":
        wanted = network.state_dict()
        assert set(tensors) == set(wanted)
        for name, tensor in wanted.items():
            np.testing.assert_array_equal(tensors[name], tensor)


def test_a_body_without_a_classifier_has_no_prefix():
    network, backbone = theirs(), convnext(DEPTHS, WIDTHS)
    named = {name: t.numpy() for name, t in network.convnext.state_dict().items()}
    _, report = match(Tensors(named, "the test"), like(backbone), backbone.dialects)
    assert report.skipped == ()
    assert {leaf.path for leaf in report.initialised} == {"params/head/kernel", "params/head/bias"}


def timm(depths):
    """The names in a file of timm, from its module tree."""
    yield from ("stem.0", "stem.1", "head.norm", "head.fc")
    for s, depth in enumerate(depths):
        yield from (f"stages.{s}.downsample.{i}" for i in range(2) if s)
        for b in range(depth):
            yield from (f"stages.{s}.blocks.{b}.{i}" for i in ("conv_dw", "norm"))
            yield from (f"stages.{s}.blocks.{b}.mlp.{i}" for i in ("fc1", "fc2"))


def facebook(depths):
    """The names in a file of the authors, from their module tree."""
    yield from ("norm", "head")
    for s, depth in enumerate(depths):
        yield from (f"downsample_layers.{s}.{i}" for i in range(2))
        for b in range(depth):
            layers = ("dwconv", "norm", "pwconv1", "pwconv2")
            yield from (f"stages.{s}.{b}.{i}" for i in layers)


@pytest.mark.parametrize(
    ("dialect", "layers", "block"),
    [("timm", timm, "stages.{}.blocks.{}.gamma"), ("facebook", facebook, "stages.{}.{}.gamma")],
)
def test_names_are_those_of_the_files(dialect, layers, block):
    (table,) = (d for d in CONVNEXT_DIALECTS if d.name == dialect)
    wanted = {f"{layer}.{kind}" for layer in layers(DEPTHS) for kind in ("weight", "bias")}
    wanted |= {block.format(s, b) for s, depth in enumerate(DEPTHS) for b in range(depth)}
    backbone = convnext(DEPTHS, WIDTHS)
    variables, _ = loaded(backbone, theirs().state_dict())
    assert set(state_dict(variables, table)) == wanted


@pytest.mark.parametrize(("make", "depths", "widths", "count"), SIZES)
def test_sizes_are_the_published_ones(make, depths, widths, count):
    backbone = make()
    assert backbone == convnext(depths, widths)
    shapes = jax.eval_shape(backbone.init, KEY, None)
    own = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params))
    assert own + 1000 * widths[-1] + 1000 == count
    assert f"{own:,} parameters" in make.__doc__


def test_stochastic_depth_keeps_or_drops_whole_examples():
    backbone = convnext((1, 1, 1, 1), WIDTHS, drop_path=0.6)
    shapes = jax.eval_shape(backbone.init, KEY, None)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype("f"), shapes.params)

    @partial(quick_jit, static_argnums=2)
    def last(params, carry, mode):
        run = backbone.apply_stages(params, {}, carry, start=4, stop=5, rng=KEY, mode=mode)
        return run[1]["stage4"]

    # Equal examples: what differs between them is chance alone.
    one = rng.normal(size=(1, 4, 4, WIDTHS[2])).astype(np.float32)
    carry = np.repeat(one, 400, 0)
    whole = np.asarray(last(params, one, "eval"))
    stripped = jax.tree.map(lambda leaf: leaf, params)
    stripped["stage4"]["block0"]["layer_scale"]["scale"] = jnp.zeros(WIDTHS[3])
    short = np.asarray(last(stripped, one, "eval"))
    for mode in ("train", "tune"):
        drawn = np.asarray(last(params, carry, mode))
        kept = np.abs(drawn - short).max((1, 2, 3)) > 1e-4
        near(drawn[~kept], np.repeat(short, (~kept).sum(), 0))
        near(drawn[kept], np.repeat(short + (whole - short) / 0.4, kept.sum(), 0))
        assert abs(kept.mean() - 0.4) < 4 * math.sqrt(0.24 / 400)


def test_the_first_block_never_drops_and_the_rate_rises_linearly():
    module = nnx.eval_shape(lambda: ConvNeXt((2, 1, 1, 1), WIDTHS, 3, 0.4, nnx.Rngs(0)))
    stages = [module.stage1, module.stage1, module.stage2, module.stage3, module.stage4]
    names = ("block0", "block1", "block0", "block0", "block0")
    drops = [getattr(stage, name).drop for stage, name in zip(stages, names, strict=True)]
    assert drops[0] is None
    np.testing.assert_allclose([drop.rate for drop in drops[1:]], [0.1, 0.2, 0.3, 0.4])


def test_layer_scale_is_no_kernel():
    backbone = convnext(DEPTHS, WIDTHS)
    assert backbone.leaf("stage1/block0/layer_scale/scale")[:2] == ("stage1", "norm")
    assert backbone.leaf("stage4/norm/scale")[:2] == ("stage4", "norm")
    assert backbone.leaf("stage3/block1/dwconv/kernel")[:2] == ("stage3", "kernel")
    assert backbone.leaf("stage2/downsample/conv/bias")[:2] == ("stage2", "bias")


def test_options_without_a_meaning_are_refused():
    with pytest.raises(ConfigError, match="drop_path"):
        convnext_tiny(drop_path=1.0)
    with pytest.raises(ConfigError, match="channel"):
        convnext_tiny(channels=0)


def test_grey_pictures_have_a_stem_of_their_own():
    backbone = convnext(DEPTHS, WIDTHS, channels=1)
    assert (backbone.inputs.channels, len(backbone.inputs.mean)) == (1, 1)
    variables, report = loaded(backbone, theirs().state_dict())
    kernel = variables.params["backbone"]["stem"]["conv"]["kernel"]
    weight = theirs().state_dict()["convnext.embeddings.patch_embeddings.weight"]
    near(kernel, weight.sum(1, keepdim=True).permute(2, 3, 1, 0).numpy())
    (changed,) = (leaf for leaf in report.loaded if leaf.change)
    assert (changed.path, changed.change) == (
        "params/backbone/stem/conv/kernel",
        "summed over its 3 input channels",
    )
