"""The ResNets against a PyTorch network with the same weights: features, statistics, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_flax.resnet_cifar import resnet20
from tlx_flax.resnet_imagenet import resnet18, resnet50
from torch import nn
from torch.nn import functional as F

from tlx import trees
from tlx.testing.compiling import quick_jit
from tlx.types import Variables

KEY = jax.random.key(0)


class Pad(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra // 2))


class Block(nn.Module):
    """torchvision's names: `downsample.0` and `.1` project where the shape changes."""

    def __init__(self, cin, width, stride, option, deep):
        super().__init__()
        cout = 4 * width if deep else width
        # (kernel size, channels, stride) of the convolutions in turn.
        plan = [(3, width, stride), (3, width, 1)]
        if deep:
            plan = [(1, width, 1), (3, width, stride), (1, cout, 1)]
        before = cin
        for number, (size, channels, step) in enumerate(plan, 1):
            conv = nn.Conv2d(before, channels, size, step, size // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            before = channels
        self.last, self.downsample = len(plan), nn.Identity()
        if (cin, stride) != (cout, 1):
            norm = nn.BatchNorm2d(cout)
            conv = nn.Conv2d(cin, cout, 1, stride, bias=False)
            self.downsample = Pad(cout - cin) if option == "A" else nn.Sequential(conv, norm)

    def forward(self, x):
        y = x
        for number in range(1, self.last + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            y = F.relu(y) if number < self.last else y
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, blocks, widths, option, deep=False):
        super().__init__()
        self.large = len(blocks) == 4
        stem = widths[0]
        self.conv1 = (
            nn.Conv2d(3, stem, 7, 2, 3, bias=False)
            if self.large
            else nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(stem)
        cin, self.names = stem, []
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            layer = []
            for block in range(count):
                stride = 2 if block == 0 and number > 1 else 1
                layer.append(Block(cin, width, stride, option, deep))
                cin = 4 * width if deep else width
            self.names.append(f"layer{number}")
            self.add_module(self.names[-1], nn.Sequential(*layer))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        features = {"stem": x}
        if self.large:
            x = F.max_pool2d(x, 3, 2, 1)
        for name in self.names:
            x = self.get_submodule(name)(x)
            features[name.replace("layer", "stage")] = x
        return {**features, "pooled": x.mean((2, 3))}


CASES = {
    "resnet20 A": (resnet20, lambda: ResNet((3, 3, 3), (16, 32, 64), "A"), 32),
    "resnet20 B": (lambda: resnet20("B"), lambda: ResNet((3, 3, 3), (16, 32, 64), "B"), 32),
    "resnet18": (resnet18, lambda: ResNet((2, 2, 2, 2), (64, 128, 256, 512), "B"), 64),
    "resnet50": (resnet50, lambda: ResNet((3, 4, 6, 3), (64, 128, 256, 512), "B", True), 64),
}


def ours(array):
    """Maps to channels last, kernels OIHW to HWIO."""
    array = array.detach().numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def maps(array):
    return np.moveaxis(array.detach().numpy(), 1, -1)


def by_leaf(backbone, named):
    """Arrays under PyTorch's names by the backbone's own leaf paths."""
    found = {backbone.foreign_name(name): ours(array) for name, array in named}
    return {path: array for path, array in found.items() if path is not None}


def pair(case):
    """The backbone with variables, and the PyTorch network with the same numbers."""
    make, make_torch, size = CASES[case]
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
    x = np.random.default_rng(0).normal(size=(4, size, size, 3)).astype(np.float32)
    shapes = jax.eval_shape(backbone.init, KEY, x)
    like = Variables({"backbone": shapes.params}, {"backbone": shapes.state})
    leaves = by_leaf(backbone, network.state_dict().items())
    wanted = {path.partition("/")[2]: leaf for path, leaf in leaves.items()}
    params, state = (
        trees.unflat(tree, {k: jnp.asarray(wanted[k]) for k in trees.flat(tree)})["backbone"]
        for tree in like
    )
    assert len(leaves) == len(trees.flat(like.params)) + len(trees.flat(like.state))
    return backbone, params, state, network, x


def picture(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def near(got, wanted, share=2e-4):
    np.testing.assert_allclose(got, wanted, atol=share * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_same_features_and_statistics_as_pytorch(case):
    backbone, params, state, network, x = pair(case)
    apply = quick_jit(backbone.apply, static_argnames="mode")
    network.eval()
    with torch.no_grad():
        wanted = network(picture(x))
    features, kept = apply(params, state, x, rng=KEY, mode="eval")
    for spec in backbone.features:
        near(features[spec.name], maps(wanted[spec.name]))
    jax.tree.map(np.testing.assert_array_equal, kept, state)

    values = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, ins, out, name=name: values.update({name: out.numel() // out.shape[1]})
            )
    network.train()
    before = by_leaf(backbone, [(k, v.clone()) for k, v in network.state_dict().items()])
    with torch.no_grad():
        wanted = network(picture(x))
    features, moved = apply(params, state, x, rng=KEY, mode="train")
    for spec in backbone.features:
        near(features[spec.name], maps(wanted[spec.name]), 2e-3)
    moved = trees.flat({"state": {"backbone": moved}})
    for name, tensor in network.state_dict().items():
        path = backbone.foreign_name(name)
        if path in moved:
            after = tensor.numpy()
            if name.endswith("running_var"):
                # PyTorch's running variance is the unbiased one, ours the biased one.
                n = values[name.rpartition(".")[0]]
                after = before[path] * 0.9 + (after - before[path] * 0.9) * (n - 1) / n
            near(moved[path], after, 1e-3)


def test_same_gradients_as_pytorch():
    backbone, params, state, network, x = pair("resnet20 A")
    weights = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)

    @quick_jit
    @jax.grad
    def gradient(params):
        features, _ = backbone.apply(params, state, x, rng=KEY, mode="train")
        return (features["pooled"] * weights).sum()

    network.train()
    (network(picture(x))["pooled"] * torch.tensor(weights)).sum().backward()
    wanted = by_leaf(backbone, [(name, p.grad) for name, p in network.named_parameters()])
    got = trees.flat({"params": {"backbone": gradient(params)}})
    assert set(got) == set(wanted)
    for path, leaf in got.items():
        near(leaf, wanted[path], 5e-3)


def test_tune_is_eval_where_nothing_drops_out():
    backbone, params, state, _, x = pair("resnet20 A")
    apply = quick_jit(backbone.apply, static_argnames="mode")
    tuned, kept = apply(params, state, x, rng=KEY, mode="tune")
    wanted, _ = apply(params, state, x, rng=KEY, mode="eval")
    jax.tree.map(np.testing.assert_array_equal, (tuned, kept), (wanted, state))
