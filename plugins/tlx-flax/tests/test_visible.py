"""Masked networks: nothing that is hidden can be seen, and what is visible is that of a sparse
convolution, written down in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_flax import resnet_cifar
from tlx_flax.batch_norm import BatchNorm
from tlx_flax.resnet_imagenet import BASIC, BOTTLENECK, imagenet_resnet
from tlx_flax.resnet_variants import BASIC_D
from tlx_flax.visible import Visible
from tlx_flax.vit import vit
from torch.nn import functional as F

from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)
ONE = (1, 1, 1, 1)
# Name: the backbone and the side of its pictures.
NETWORKS = {
    "resnet20": (resnet_cifar.resnet20(), 16),
    "cifar, option B": (resnet_cifar._resnet(1, "B", 3), 16),
    "small stem": (imagenet_resnet(ONE, BASIC, "small"), 32),
    "imagenet stem": (imagenet_resnet(ONE, BASIC, "imagenet"), 64),
    "deep stem, option D": (imagenet_resnet(ONE, BASIC_D, "deep"), 64),
    "bottlenecks": (imagenet_resnet(ONE, BOTTLENECK, "small"), 32),
    "vit": (vit(16, 4, 24, 3, 2, registers=2, pool="mean"), 16),
}
RESNETS = [name for name in NETWORKS if name != "vit"]


def numbers(backbone):
    """Random variables, drawn outside of JAX: nothing has to be compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(backbone.init, KEY, None)

    def kernel(leaf):
        fan = max(int(np.prod(leaf.shape[:-1])), 1)
        return (rng.normal(size=leaf.shape) * (2 / fan) ** 0.5).astype("f")

    params = jax.tree.map(kernel, shapes.params)
    state = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype("f"), shapes.state)
    return params, state


def masks(backbone, size, batch=3, count=None, seed=1):
    """A random mask, and how many cells of it are visible."""
    grid = size // backbone.cell
    count = grid * grid // 2 if count is None else count
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((batch, grid * grid)), axis=1)
    return (order < count).reshape(batch, grid, grid), count


def pixels(cells, cell):
    return cells.repeat(cell, 1).repeat(cell, 2)[..., None]


def drawn(size, batch=3, seed=2):
    return np.random.default_rng(seed).normal(size=(batch, size, size, 3)).astype("f")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "bottlenecks"])
def test_hidden_pixels_change_nothing_to_the_bit(name):
    """Neither features nor statistics; nor, where that is quick, the gradient."""
    backbone, size = NETWORKS[name]
    params, state = numbers(backbone)
    cells, count = masks(backbone, size)
    hidden = ~pixels(cells, backbone.cell)

    @quick_jit
    def run(x):
        def deepest(params):
            features, after = backbone.apply_visible(
                params, state, x, cells, count=count, rng=KEY, mode="train"
            )
            return (features["pooled"] ** 2).sum(), (features, after)

        if name in ("resnet20", "vit"):
            return jax.grad(deepest, has_aux=True)(params)
        return None, deepest(params)[1]

    x = drawn(size)
    slope, (features, after) = run(x)
    for other in (np.float32(np.nan), -x):
        again = run(np.where(hidden, other, x))
        jax.tree.map(np.testing.assert_array_equal, again, (slope, (features, after)))
    moved = [
        bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (after, state)), strict=True)
    ]
    assert all(moved)
    for spec in backbone.features:
        found = np.asarray(features[spec.name])
        if spec.kind == "tokens":
            assert found.shape == (3, 3 + count, spec.channels)
        if spec.kind == "map":
            side = size // spec.stride
            assert found.shape == (3, side, side, spec.channels)
            seen = pixels(cells, side // cells.shape[1])[..., 0]
            assert not found[~seen].any()
            assert found[seen].any(axis=-1).mean() > 0.9
            if spec.name == backbone.features[-2].name:
                mean = [one[there].mean(0) for one, there in zip(found, seen, strict=True)]
                np.testing.assert_allclose(features["pooled"], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar, option B", "imagenet stem", "vit"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_picture_that_is_visible_as_a_whole_is_a_picture(name, mode):
    backbone, size = NETWORKS[name]
    params, state = numbers(backbone)
    cells, count = masks(backbone, size, count=(size // backbone.cell) ** 2)
    x = drawn(size)

    @quick_jit
    def both(params, state, x, cells):
        seen = backbone.apply_visible(params, state, x, cells, count=count, rng=KEY, mode=mode)
        return seen, backbone.apply(params, state, x, rng=KEY, mode=mode)

    seen, plain = both(params, state, x, cells)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), seen, plain)


def test_batch_norm_is_pytorchs_over_the_visible_positions():
    cells, count = masks(NETWORKS["resnet20"][0], 16)
    rng = np.random.default_rng(3)
    x, slope = (rng.normal(1, 2, (3, 8, 8, 5)).astype("f") for _ in range(2))
    scale, bias, mean = (rng.normal(size=5).astype("f") for _ in range(3))
    var = rng.uniform(0.5, 2, 5).astype("f")
    seen = pixels(cells, 2)[..., 0]

    def layer(x, use_running_average):
        norm = BatchNorm(5)
        norm.set_attributes(use_running_average=use_running_average)
        for name, value in (("scale", scale), ("bias", bias), ("mean", mean), ("var", var)):
            getattr(norm, name).set_value(jnp.asarray(value))
        y = norm(x, Visible(jnp.asarray(cells), count))
        return (y * slope).sum(), (y, norm.mean.get_value(), norm.var.get_value())

    for running in (False, True):
        back, (y, new_mean, new_var) = quick_jit(jax.grad(layer, has_aux=True), static_argnums=1)(
            x, running
        )
        gathered = torch.tensor(x[seen]).requires_grad_()
        kept = torch.tensor(mean), torch.tensor(var)
        affine = torch.tensor(scale), torch.tensor(bias)
        wanted = F.batch_norm(gathered, *kept, *affine, not running, 0.1, 1e-5)
        (wanted * torch.tensor(slope[seen])).sum().backward()
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(np.asarray(y)[seen], wanted.detach(), **close)
        np.testing.assert_allclose(np.asarray(back)[seen], gathered.grad, **close)
        np.testing.assert_allclose(new_mean, kept[0], **close)
        np.testing.assert_allclose(new_var, kept[1], **close)
        assert not np.asarray(y)[~seen].any()
        assert not np.asarray(back)[~seen].any()


def sparse(backbone, params, x, cells):
    """A ResNet that multiplies by the mask after every convolution, pooling and norm, and whose
    norms gather the visible positions: maps (B,C,H,W) by name. `params` as tensors."""
    seen = torch.tensor(cells)[:, None]

    def masked(y):
        return y * F.interpolate(seen.float(), size=y.shape[2:])

    def norm(y, own):
        rows = F.interpolate(seen.float(), size=y.shape[2:])[:, 0].bool()
        out = torch.zeros_like(y).movedim(1, -1)
        out[rows] = F.batch_norm(
            y.movedim(1, -1)[rows], None, None, own["scale"], own["bias"], True, 0.1, 1e-5
        )
        return out.movedim(-1, 1)

    def conv(y, own, stride):
        kernel = own["kernel"].permute(3, 2, 0, 1)
        return masked(F.conv2d(y, kernel, stride=stride, padding=kernel.shape[-1] // 2))

    def around(y, own, stride, cout):
        if "shortcut" in own:
            if pooled and stride > 1:
                y, stride = masked(F.avg_pool2d(y, stride)), 1
            return norm(conv(y, own["shortcut"]["conv"], stride), own["shortcut"]["bn"])
        new = cout - y.shape[1]
        return F.pad(y[:, :, ::stride, ::stride], (0, 0, 0, 0, new // 2, (new + 1) // 2))

    def block(y, own, stride):
        last = max(int(key[2:]) for key in own if key.startswith("bn"))
        z = y  # not negative, so that the first relu does nothing
        for number in range(1, last + 1):
            here = stride if number == last - 1 else 1
            z = norm(conv(torch.relu(z), own[f"conv{number}"], here), own[f"bn{number}"])
        return torch.relu(z + around(y, own, stride, z.shape[1]))

    options = dict(backbone.options)
    pooled = "design" in options and options["design"].shortcut == "D"
    strides = {spec.name: spec.stride for spec in backbone.features}
    y, maps, before = masked(x), {}, 1
    for name in backbone.stages:
        own, step = params[name], strides[name] // before
        if name == "stem":
            for number in range(1, len(own) // 2 + 1):
                stride = step if number == 1 else 1
                y = torch.relu(norm(conv(y, own[f"conv{number}"], stride), own[f"bn{number}"]))
        else:
            for number in range(len(own)):
                y = block(y, own[f"block{number}"], step if number == 0 else 1)
        maps[name], before = y, strides[name]
        if name == "stem" and options.get("stem", "small") != "small":
            y, before = masked(F.max_pool2d(y, 3, 2, 1)), 2 * before
    return maps


@pytest.mark.parametrize("name", RESNETS)
def test_maps_are_those_of_a_sparse_convolution(name):
    backbone, size = NETWORKS[name]
    params, state = numbers(backbone)
    cells, count = masks(backbone, size)
    x = drawn(size)

    @quick_jit
    def run(params, state, x):
        return backbone.apply_visible(params, state, x, cells, count=count, rng=KEY, mode="train")

    features, _ = run(params, state, x)
    with torch.no_grad():
        tensors = jax.tree.map(torch.tensor, params)
        wanted = sparse(backbone, tensors, torch.tensor(x).permute(0, 3, 1, 2), cells)
    assert set(wanted) == set(features) - {"pooled"}
    for name, value in wanted.items():
        scale = float(value.abs().max())
        ours = np.asarray(features[name]).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(ours, value, rtol=1e-3, atol=1e-3 * scale)


def test_a_vision_transformer_runs_on_the_visible_tokens_alone():
    backbone, size = NETWORKS["vit"]
    params, state = numbers(backbone)
    cells, count = masks(backbone, size)
    x = drawn(size)

    @quick_jit
    def both(params, x):
        last = len(backbone.stages)
        _, whole, _ = backbone.apply_stages(params, state, x, start=0, stop=1, rng=KEY, mode="eval")
        rows = []
        for one, there in zip(whole["embed"], cells.reshape(3, -1), strict=True):
            rows.append(jnp.concatenate([one[:3], one[3:][np.flatnonzero(there)]]))
        _, above, _ = backbone.apply_stages(
            params, state, jnp.stack(rows), start=1, stop=last, rng=KEY, mode="eval"
        )
        by_hand = {"embed": jnp.stack(rows), **above}
        seen, _ = backbone.apply_visible(params, state, x, cells, count=count, rng=KEY, mode="eval")
        return by_hand, dict(seen)

    by_hand, seen = both(params, x)
    assert seen.keys() == by_hand.keys()
    for name, value in by_hand.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
