"""The ResNets against `transformers`' own, which is another implementation with other names."""

import jax
import numpy as np
import pytest
import torch
from tlx_flax.resnet_imagenet import imagenet_resnet, resnet18
from tlx_flax.resnet_parts import Design
from transformers import ResNetConfig, ResNetForImageClassification

from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)
CLASSES = 7
CASES = {
    "basic": (resnet18, (2, 2, 2, 2), (64, 128, 256, 512)),
    # Version 1.5: the stride of a bottleneck is on its 3x3 convolution.
    "bottleneck": (
        lambda: imagenet_resnet((1, 2, 1, 1), Design("bottleneck")),
        (1, 2, 1, 1),
        (256, 512, 1024, 2048),
    ),
}


def pair(case):
    """The backbone, abstract variables of it and of a classifier, and the PyTorch network."""
    make, depths, widths = CASES[case]
    backbone = make()
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=list(widths),
        depths=list(depths),
        layer_type=case,
        downsample_in_bottleneck=False,
        num_labels=CLASSES,
    )
    torch.manual_seed(0)
    network = ResNetForImageClassification(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    body = jax.eval_shape(backbone.init, KEY, None)
    shapes = {"kernel": (widths[-1], CLASSES), "bias": (CLASSES,)}
    head = {leaf: jax.ShapeDtypeStruct(shape, np.float32) for leaf, shape in shapes.items()}
    like = Variables({"backbone": body.params, "head": head}, {"backbone": body.state})
    return backbone, like, network


def arrays(network):
    named = network.state_dict().items()
    return {k: v.numpy().copy() for k, v in named if not k.endswith("num_batches_tracked")}


def near(got, wanted, share=1e-4):
    np.testing.assert_allclose(got, wanted, atol=share * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_same_features_logits_and_statistics(case):
    backbone, like, network = pair(case)
    named = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    variables, report = match(Tensors(named, "it"), like, backbone.dialects)
    assert report.dialect == "transformers"
    assert (report.initialised, report.skipped, report.notes) == ((), (), ())
    dialect = next(d for d in backbone.dialects if d.name == report.dialect)
    back, there = state_dict(variables, dialect), arrays(network)
    assert back.keys() == there.keys()
    jax.tree.map(np.testing.assert_array_equal, back, there)

    x = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
    picture = torch.tensor(np.moveaxis(x, -1, 1).copy())
    seen = {}
    network.resnet.embedder.embedder.register_forward_hook(
        lambda _, inputs, output: seen.update(stem=output)
    )
    network.eval()
    with torch.no_grad():
        answer = network(picture, output_hidden_states=True)
    seen |= {f"stage{n}": map for n, map in enumerate(answer.hidden_states[1:], 1)}
    params, state = (tree["backbone"] for tree in variables)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    features, _ = apply(params, state, x, rng=KEY, mode="eval")
    for name, wanted in seen.items():
        near(features[name], np.moveaxis(wanted.numpy(), 1, -1))
    assert set(features) == {*seen, "pooled"}
    pooled = answer.hidden_states[-1].mean((2, 3)).numpy()
    near(features["pooled"], pooled)
    head = variables.params["head"]
    near(features["pooled"] @ head["kernel"] + head["bias"], answer.logits.numpy())

    network.train()
    with torch.no_grad():
        network(picture)
    _, moved = apply(params, state, x, rng=KEY, mode="train")
    after = state_dict(variables._replace(state={"backbone": moved}), dialect)
    for name, tensor in arrays(network).items():
        near(after[name], tensor)


def test_without_its_classifier():
    backbone, like, network = pair("basic")
    named = {name: tensor.numpy() for name, tensor in network.resnet.state_dict().items()}
    _, report = match(Tensors(named, "it"), like, backbone.dialects)
    assert {leaf.path for leaf in report.initialised} == {"params/head/kernel", "params/head/bias"}
    assert report.skipped == ()
