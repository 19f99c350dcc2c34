"""The ResNets against a PyTorch network with the same weights: features, statistics, gradients."""

import jax
import numpy as np
import pytest
import torch
from tlx_flax import resnet_cifar, resnet_imagenet, resnet_variants
from tlx_flax.resnet_imagenet import imagenet_resnet
from tlx_flax.resnet_parts import Design
from torch import nn
from torch.nn import functional as F

from tlx import trees
from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)
CLASSES = 10


class Pad(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra // 2))


class Block(nn.Module):
    """torchvision's and timm's names; with `way="shortcut"` those of the CIFAR ResNets."""

    def __init__(self, cin, width, stride, design, way):
        super().__init__()
        cout = design.cout(width)
        # (kernel size, channels, stride, groups) of the convolutions in turn.
        plan = [(3, width, stride, 1), (3, width, 1, 1)]
        if design.kind == "bottleneck":
            inner = int(width * design.group_width / 64) * design.groups
            plan = [(1, inner, 1, 1), (3, inner, stride, design.groups), (1, cout, 1, 1)]
        before = cin
        for number, (size, channels, step, groups) in enumerate(plan, 1):
            conv = nn.Conv2d(before, channels, size, step, size // 2, groups=groups, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            before = channels
        self.last, self.way = len(plan), way
        self.add_module(way, nn.Sequential())
        if (cin, stride) != (cout, 1):
            pooled = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)]
            step = 1 if design.shortcut == "D" else stride
            conv, norm = nn.Conv2d(cin, cout, 1, step, bias=False), nn.BatchNorm2d(cout)
            first = pooled if design.shortcut == "D" else []
            padded = design.shortcut == "A"
            self.add_module(way, Pad(cout - cin) if padded else nn.Sequential(*first, conv, norm))

    def forward(self, x):
        y = x
        for number in range(1, self.last + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            y = F.relu(y) if number < self.last else y
        return F.relu(y + self.get_submodule(self.way)(x))


def stem_conv(kind, channels, cout):
    if kind == "imagenet":
        return nn.Conv2d(channels, cout, 7, 2, 3, bias=False)
    if kind == "small":
        return nn.Conv2d(channels, cout, 3, 1, 1, bias=False)
    layers, before = [], channels
    for after, stride in ((32, 2), (32, 1)):
        conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, cout, 3, 1, 1, bias=False))


class ResNet(nn.Module):
    def __init__(self, blocks, design, stem, channels=3, way="downsample"):
        super().__init__()
        widths = (64, 128, 256, 512) if len(blocks) == 4 else (16, 32, 64)
        self.pools = stem != "small"
        self.conv1 = stem_conv(stem, channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        cin, self.names = widths[0], []
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            layer = []
            for block in range(count):
                stride = 2 if block == 0 and number > 1 else 1
                layer.append(Block(cin, width, stride, design, way))
                cin = design.cout(width)
            self.names.append(f"layer{number}")
            self.add_module(self.names[-1], nn.Sequential(*layer))
        self.add_module("fc" if way == "downsample" else "linear", nn.Linear(cin, CLASSES))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        features = {"stem": x}
        if self.pools:
            x = F.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = self.get_submodule(name)(x)
            features[name.replace("layer", "stage")] = x
        return {**features, "pooled": x.mean((2, 3))}


def both(blocks, design, stem="imagenet", channels=3):
    """The factories of a backbone and of its PyTorch counterpart."""
    return (
        lambda: imagenet_resnet(blocks, design, stem, channels),
        lambda: ResNet(blocks, design, stem, channels),
    )


BASIC, BOTTLENECK = Design("basic"), Design("bottleneck")
WIDE = Design("bottleneck", group_width=128)
NEXT = Design("bottleneck", groups=32, group_width=4)
SHORT = (1, 2, 1, 1)


def cifar(option):
    return (
        lambda: resnet_cifar.resnet20(option),
        lambda: ResNet((3, 3, 3), Design("basic", option), "small", way="shortcut"),
    )


CASES = {
    # name: (backbone, network, size of its pictures, dialect). 72 gives an odd map to average.
    "resnet20 A": (*cifar("A"), 32, "akamaster"),
    "resnet20 B": (*cifar("B"), 32, "akamaster"),
    "small stem": (*both(SHORT, BASIC, "small", 1), 24, "timm"),
    "basic D": (*both(SHORT, Design("basic", "D"), "deep", 4), 72, "timm"),
    "bottleneck D": (*both(SHORT, Design("bottleneck", "D"), "deep"), 72, "timm"),
    "wide": (*both((1, 1, 1, 1), WIDE), 64, "timm"),
    "ResNeXt": (*both(SHORT, NEXT), 64, "timm"),
}


def maps(array):
    return np.moveaxis(array.detach().numpy(), 1, -1)


def picture(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def arrays(network):
    """The state dict, less the counters that mean nothing here."""
    return {
        name: tensor.detach().numpy().copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def with_head(backbone, x):
    """The backbone's variables, abstract, and those of a classifier on its last feature."""
    body = jax.eval_shape(backbone.init, KEY, x)
    shapes = {"kernel": (backbone.features[-1].channels, CLASSES), "bias": (CLASSES,)}
    head = {leaf: jax.ShapeDtypeStruct(shape, np.float32) for leaf, shape in shapes.items()}
    return Variables({"backbone": body.params, "head": head}, {"backbone": body.state})


def pair(case):
    """The backbone with its variables, its dialect, and the PyTorch network with the same
    numbers: all of them are loaded, nothing else is left, and they go back to the bit."""
    make, make_torch, size, speaks = CASES[case]
    backbone = make()
    torch.manual_seed(0)
    network = make_torch()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Unlike a fresh network's, so that a mix-up shows.
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    shape = (4, size, size, backbone.inputs.channels)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    named = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    variables, report = match(Tensors(named, "it"), with_head(backbone, x), backbone.dialects)
    assert (report.initialised, report.skipped, report.notes) == ((), (), ())
    assert len(report.loaded) == len(arrays(network))
    assert report.dialect == speaks
    dialect = next(d for d in backbone.dialects if d.name == speaks)
    back, there = state_dict(variables, dialect), arrays(network)
    assert back.keys() == there.keys()
    jax.tree.map(np.testing.assert_array_equal, back, there)
    return backbone, variables, dialect, network, x


def near(got, wanted, share=1e-4):
    np.testing.assert_allclose(got, wanted, atol=share * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_same_features_and_statistics_as_pytorch(case):
    backbone, variables, dialect, network, x = pair(case)
    params, state = (tree["backbone"] for tree in variables)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    network.eval()
    with torch.no_grad():
        wanted = network(picture(x))
    features, kept = apply(params, state, x, rng=KEY, mode="eval")
    assert set(features) == set(wanted)
    for spec in backbone.features:
        near(features[spec.name], maps(wanted[spec.name]))
    jax.tree.map(np.testing.assert_array_equal, kept, state)

    network.train()
    with torch.no_grad():
        network(picture(x))
    _, moved = apply(params, state, x, rng=KEY, mode="train")
    after = state_dict(variables._replace(state={"backbone": moved}), dialect)
    for name, tensor in arrays(network).items():
        near(after[name], tensor)


PUBLISHED = {
    "resnet18": (resnet_imagenet.resnet18, (2, 2, 2, 2), BASIC, "imagenet"),
    "resnet18c": (lambda: resnet_imagenet.resnet18("deep"), (2, 2, 2, 2), BASIC, "deep"),
    "resnet34d": (resnet_variants.resnet34d, (3, 4, 6, 3), Design("basic", "D"), "deep"),
    "resnet50": (resnet_imagenet.resnet50, (3, 4, 6, 3), BOTTLENECK, "imagenet"),
    "resnet50d": (resnet_variants.resnet50d, (3, 4, 6, 3), Design("bottleneck", "D"), "deep"),
    "wide_resnet50_2": (resnet_variants.wide_resnet50_2, (3, 4, 6, 3), WIDE, "imagenet"),
    "resnext50_32x4d": (resnet_variants.resnext50_32x4d, (3, 4, 6, 3), NEXT, "imagenet"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes(name):
    make, blocks, design, stem = PUBLISHED[name]
    backbone = make()
    with torch.device("meta"):
        network = ResNet(blocks, design, stem)
    theirs = {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    ours, dialect = trees.flat(with_head(backbone, None)), backbone.dialects[0]
    named = {path: dialect.name_of(path) for path in ours}
    assert {found[0] for found in named.values() if found} == theirs.keys()
    for path, leaf in ours.items():
        key, row = named[path]
        axes = (3, 2, 0, 1) if len(leaf.shape) == 4 else range(len(leaf.shape))[::-1]
        assert theirs[key] == tuple(leaf.shape[axis] for axis in axes)
        assert (path, row) in dialect.leaves(key)


def test_same_gradients_as_pytorch():
    backbone, variables, dialect, network, x = pair("resnet20 A")
    (params, state), head = (tree["backbone"] for tree in variables), variables.params["head"]
    weights = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)

    @quick_jit
    @jax.grad
    def gradient(params):
        features, _ = backbone.apply(params, state, x, rng=KEY, mode="train")
        return (features["pooled"] * weights).sum()

    network.train()
    (network(picture(x))["pooled"] * torch.tensor(weights)).sum().backward()
    both = Variables({"backbone": gradient(params), "head": head}, variables.state)
    got = state_dict(both, dialect)
    for name, parameter in network.named_parameters():
        if not name.startswith("linear."):
            near(got[name], parameter.grad.numpy(), 5e-3)


def test_tune_is_eval_where_nothing_drops_out():
    backbone, variables, _, _, x = pair("resnet20 A")
    params, state = (tree["backbone"] for tree in variables)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    tuned, kept = apply(params, state, x, rng=KEY, mode="tune")
    wanted, _ = apply(params, state, x, rng=KEY, mode="eval")
    jax.tree.map(np.testing.assert_array_equal, (tuned, kept), (wanted, state))
