"""A tensor that no leaf takes is a part of another network, or stands beside this one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.config import WeightsConfig
from tlx.errors import ConfigError, WeightsError
from tlx.registry import build
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict
from tlx.weights.refusals import refuse_others

VIT = {"depth": 2, "width": 24, "heads": 3, "size": 32, "patch": 4}


@pytest.fixture(scope="module")
def networks():
    """Name -> (leaves, dialects, a file of it in timm's names)."""
    found = {}
    for name, options in (("resnet20", {"shortcut": "B"}), ("vit", VIT)):
        backbone = build("backbones", name, options)
        like = jax.eval_shape(backbone.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        zeros = Variables({"backbone": zeros.params}, {"backbone": zeros.state})
        found[name] = (zeros, backbone.dialects, state_dict(zeros, backbone.dialects[0]))
    return found


class Source:
    """A file that says what its network is called."""

    input = classes = None

    def __init__(self, architecture=""):
        self.architecture = architecture


def load(networks, name, more, prefix="", source=None, **keys):
    like, dialects, tensors = networks[name]
    file = {f"{prefix}{k}": v for k, v in tensors.items()}
    file |= {k: np.ones(shape, np.float32) for k, shape in more.items()}
    config = WeightsConfig(name="x", **keys)
    report = match(Tensors(file, "x"), like, dialects, config.prefix)[1]
    refuse_others(config, source or Source(), report, dialects)
    return report


OTHERS = [
    ("resnet20", "layer1.0.se.fc1.weight", "'layer1.0'"),
    ("resnet20", "conv1.bias", "'conv1'"),
    ("resnet20", "layer3.3.conv1.weight", "layer3"),
    ("resnet20", "layer4.0.conv1.weight", "stage4"),
    ("resnet20", "layer2.1.bn3.weight", "bn3"),
    ("resnet20", "layer2.0.downsample.2.weight", "downsample"),
    ("resnet20", "layer1.0.conv1.lora_A.weight", "'layer1.0.conv1'"),
    ("resnet20", "norm.weight", "among the layers"),
    ("resnet20", "branch.conv1.weight", "among the layers"),
    ("resnet20", "conv2.weight", "among the layers"),
    ("vit", "norm_pre.weight", "among the layers"),
    ("vit", "blocks.0.attn.q_norm.weight", "'blocks.0.attn'"),
    ("vit", "blocks.1.ls1.gamma", "layer_scale1"),
    ("vit", "blocks.0.gamma_1", "'blocks.0'"),
    ("vit", "blocks.2.norm1.weight", "block2"),
    ("vit", "blocks.0.attn.relative_position_bias_table", "'blocks.0.attn'"),
    ("vit", "rel_pos_bias.relative_position_bias_table", "among the layers"),
    ("vit", "reg_token", "register"),
    ("vit", "dist_token", "among the layers"),
    ("vit", "patch_embed.norm.weight", "'patch_embed'"),
    ("vit", "rope.freqs", "among the layers"),
]


@pytest.mark.parametrize(("network", "name", "where"), OTHERS)
@pytest.mark.parametrize("prefix", ["", "module.encoder."])
def test_a_tensor_of_another_network_is_refused_by_name(networks, network, name, where, prefix):
    with pytest.raises(WeightsError, match="1 tensors of the file's network have no place") as said:
        load(networks, network, {prefix + name: (3,)}, prefix)
    assert f"  {prefix}{name}: " in str(said.value)
    assert where in str(said.value)
    for glob in (name, f"*{name[-8:]}", prefix + name):
        assert load(networks, network, {prefix + name: (3,)}, prefix, allow=(glob,)).skipped


BESIDE = [
    ("resnet20", "fc.0.weight"),
    ("resnet20", "linear.weight"),
    ("resnet20", "classifier.1.weight"),
    ("resnet20", "aux_classifier.0.weight"),
    ("resnet20", "AuxLogits.conv.weight"),
    ("resnet20", "projector.0.weight"),
    ("resnet20", "projection_head.2.bias"),
    ("resnet20", "predictor.fc1.weight"),
    ("resnet20", "prototypes.weight"),
    ("resnet20", "queue"),
    ("resnet20", "momentum_encoder.layer9.0.conv1.weight"),
    ("resnet20", "ema.layer1.0.conv1.weight"),
    ("resnet20", "optimizer.conv1.weight.exp_avg"),
    ("resnet20", "layer1.0.conv1.weight_ema"),
    ("vit", "head_dist.weight"),
    ("vit", "head.mlp.0.weight"),
    ("vit", "decoder_blocks.0.attn.qkv.weight"),
    ("vit", "decoder_pos_embed"),
    ("vit", "mask_token"),
    ("vit", "lm_head.weight"),
    ("vit", "logit_scale"),
    ("vit", "text_projection"),
]


@pytest.mark.parametrize(("network", "name"), BESIDE)
def test_what_stands_beside_the_network_is_skipped_and_said(networks, network, name):
    report = load(networks, network, {name: (3,)})
    assert not report.initialised
    assert [t.name for t in report.skipped] == ([] if name == "mask_token" else [name])


def test_everything_outside_of_the_prefix_is_beside_it(networks):
    report = load(networks, "resnet20", {"model.norm.weight": (3,), "x": (1,)}, "model.net.")
    assert len(report.skipped) == 2


def test_counters_and_indices_are_no_weights(networks):
    like, dialects, tensors = networks["vit"]
    file = {**tensors, "blocks.0.attn.relative_position_index": np.zeros((2, 2), np.int64)}
    report = match(Tensors(file, "x"), like, dialects)[1]
    assert [t.part for t in report.skipped] == [""]


def test_a_layer_more_in_a_list_is_no_head(networks):
    table = {f"params/backbone/fc{n}/kernel": np.ones(2, np.float32) for n in (1, 2)}
    like = Variables({"backbone": {f"fc{n}": {"kernel": jnp.zeros(2)} for n in (1, 2)}}, {})
    tree = {name.removeprefix("params/backbone/"): value for name, value in table.items()}
    for own in (table, tree, {f"params/{k}": v for k, v in tree.items()}):
        assert not match(Tensors(own, "x"), like)[1].skipped
        more = {**own, next(iter(own)).replace("fc1", "fc3"): np.ones(2, np.float32)}
        assert match(Tensors(more, "x"), like)[1].skipped[0].part == "backbone"


def test_a_file_that_says_that_it_is_another_network(networks):
    for said in ("resnet20", "resnet18.a1_in1k", "timm/resnet20", "resnet", ""):
        load(networks, "resnet20", {}, source=Source(said))
    for said in ("seresnet20", "resnetblur18", "resnetv2_50", "vit_base_patch16_224"):
        with pytest.raises(WeightsError, match=rf"say that their network is '{said}'; this back"):
            load(networks, "resnet20", {}, source=Source(said))
        load(networks, "resnet20", {}, source=Source(said), architecture=said)
    load(networks, "vit", {}, source=Source("vit_small_patch14_dinov2.lvd142m"))
    with pytest.raises(WeightsError, match="calls its network 'seresnet20'"):
        load(networks, "resnet20", {"layer1.0.se.fc1.bias": (3,)}, source=Source("seresnet20"))


def test_a_glob_that_allows_nothing_is_told(networks):
    with pytest.raises(ConfigError, match="neither a leaf nor a tensor that was left over"):
        load(networks, "resnet20", {}, allow=("*/stage9/*",))
