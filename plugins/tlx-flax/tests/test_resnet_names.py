"""The tables of names: what each kind of file calls a leaf, and that variants are not mixed up."""

import jax
import numpy as np
import pytest
from tlx_flax.resnet_imagenet import resnet18
from tlx_flax.resnet_names import resnet_dialects
from tlx_flax.resnet_variants import resnet18d

from tlx import trees
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

PLAIN = {dialect.name: dialect for dialect in resnet_dialects()}
D = {dialect.name: dialect for dialect in resnet_dialects(deep=True, pooled=True)}


TABLE = """
    timm          conv1.weight                                    params/backbone/stem/conv1/kernel
    timm          bn1.running_var                                 state/backbone/stem/bn1/var
    timm          layer1.0.bn2.bias                               params/backbone/stage1/block0/bn2/bias
    timm          layer3.22.bn1.weight                            params/backbone/stage3/block22/bn1/scale
    timm          layer2.0.downsample.0.weight                    params/backbone/stage2/block0/shortcut/conv/kernel
    timm          layer2.0.downsample.1.running_mean              state/backbone/stage2/block0/shortcut/bn/mean
    timm          fc.weight                                       params/head/kernel
    timm          layer1.0.se.fc1.weight                          -
    timm          conv1.bias                                      -
    akamaster     layer2.0.shortcut.1.weight                      params/backbone/stage2/block0/shortcut/bn/scale
    akamaster     linear.bias                                     params/head/bias
    transformers  embedder.embedder.normalization.weight          params/backbone/stem/bn1/scale
    transformers  encoder.stages.0.layers.2.layer.1.convolution.weight  params/backbone/stage1/block2/conv2/kernel
    transformers  encoder.stages.3.layers.0.shortcut.normalization.bias  params/backbone/stage4/block0/shortcut/bn/bias
    transformers  classifier.1.weight                             params/head/kernel
"""  # noqa: E501
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("dialect", "name", "path"), ROWS)
def test_what_a_name_fills(dialect, name, path):
    assert [found for found, _ in PLAIN[dialect].leaves(name)] == [path] * (path != "-")


def test_the_variants_read_the_same_name_differently():
    first, second = "layer2.0.downsample.1.weight", "layer2.0.downsample.2.weight"
    shortcut = "params/backbone/stage2/block0/shortcut"
    assert [path for path, _ in PLAIN["timm"].leaves(first)] == [f"{shortcut}/bn/scale"]
    assert [path for path, _ in D["timm"].leaves(first)] == [f"{shortcut}/conv/kernel"]
    assert [path for path, _ in D["timm"].leaves(second)] == [f"{shortcut}/bn/scale"]
    assert PLAIN["timm"].leaves(second) == ()
    assert [path for path, _ in PLAIN["timm"].leaves("bn1.bias")] == [
        "params/backbone/stem/bn1/bias"
    ]
    assert [path for path, _ in D["timm"].leaves("bn1.bias")] == ["params/backbone/stem/bn3/bias"]
    assert D["timm"].leaves("conv1.weight") == ()


def zeros(backbone):
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), None)
    params, state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return Variables({"backbone": params}, {"backbone": state})


def test_a_file_of_another_variant_does_not_fit():
    plain, pooled = resnet18(), resnet18d()
    for ours, theirs in ((plain, pooled), (pooled, plain)):
        named = state_dict(zeros(theirs), theirs.dialects[0])
        _, report = match(Tensors(named, "it"), zeros(ours), ours.dialects)
        assert any("stem/conv" in leaf.path for leaf in report.initialised)
        assert any("shortcut/conv" in leaf.path for leaf in report.initialised)
        assert {"bn1.weight", "layer1.0.conv1.weight"} <= {leaf.name for leaf in report.loaded}


@pytest.mark.parametrize("backbone", [resnet18(), resnet18d()], ids=["resnet18", "resnet18d"])
def test_a_folded_batch_norm_only_adds_its_bias(backbone):
    like = zeros(backbone)
    named = state_dict(like, backbone.dialects[0])
    # Every convolution gets a bias, and its batch norm goes.
    kernels = {name: array for name, array in named.items() if array.ndim == 4}
    ones = {
        name.replace("weight", "bias"): np.ones(len(kernel), np.float32)
        for name, kernel in kernels.items()
    }
    variables, report = match(Tensors({**kernels, **ones}, "it"), like, backbone.dialects)
    assert (report.dialect, report.initialised, report.skipped) == ("folded", (), ())
    values = {"scale": 1.0, "bias": 1.0, "mean": 0.0, "var": 1 - 1e-5}
    for path, leaf in trees.flat(variables).items():
        value = values.get(path.rpartition("/")[2])
        assert value is None or np.all(leaf == np.float32(value)), path
