"""Stochastic normalisation: the layer against PyTorch's batch norms mixed by the same draw, and
its two ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from tlx_flax import batch_norm, resnet_cifar, resnet_imagenet, resnet_variants
from tlx_flax.batch_norm import BatchNorm
from tlx_flax.convnext import convnext_tiny
from tlx_flax.resnet8 import resnet8
from tlx_flax.vit import vit
from torch.nn import functional as F

from tlx import trees
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)
CHANNELS = 16
RNG = np.random.default_rng(0)
NUMBERS = {
    "scale": RNG.uniform(0.5, 2, CHANNELS).astype(np.float32),
    "bias": RNG.normal(size=CHANNELS).astype(np.float32),
    "mean": RNG.normal(size=CHANNELS).astype(np.float32),
    "var": RNG.uniform(0.5, 2, CHANNELS).astype(np.float32),
}
X = RNG.normal(1, 2, (4, 5, 6, CHANNELS)).astype(np.float32)
SLOPE = RNG.normal(size=X.shape).astype(np.float32)


def layer(key, scale, bias, x):
    """The output and the running statistics afterwards."""
    norm = BatchNorm(CHANNELS)
    norm.set_attributes(use_running_average=False, stochastic=True)
    for name, value in (NUMBERS | {"scale": scale, "bias": bias, "key": key}).items():
        getattr(norm, name).set_value(jnp.asarray(value))
    return norm(x), norm.mean.get_value(), norm.var.get_value()


def near(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def first(array):
    """(B,H,W,C) as PyTorch has it."""
    return torch.tensor(np.moveaxis(array, -1, 1))


def drawn(output):
    """Which channels went by the batch: those whose average over it is the offset."""
    return np.abs(output.mean((0, 1, 2)) - NUMBERS["bias"]) < 1e-4


def by_hand(batch):
    """Output, running statistics and gradients for channels that go by the batch where `batch`."""
    x, weight, bias = (
        t.requires_grad_()
        for t in (first(X), torch.tensor(NUMBERS["scale"]), torch.tensor(NUMBERS["bias"]))
    )
    mean, var = torch.tensor(NUMBERS["mean"]), torch.tensor(NUMBERS["var"])
    running = F.batch_norm(x, mean.clone(), var.clone(), weight, bias, False, 0.1, 1e-5)
    batched = F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)
    chosen = torch.tensor(batch).float()[:, None, None]
    y = chosen * batched + (1 - chosen) * running
    (y * first(SLOPE)).sum().backward()
    return y.detach(), mean, var, x.grad, weight.grad, bias.grad


@pytest.mark.parametrize("seed", range(3))
def test_the_layer_is_two_batch_norms_mixed_by_channel(seed):
    key, given = jax.random.key(seed), (NUMBERS["scale"], NUMBERS["bias"], X)
    y, mean, var = quick_jit(layer)(key, *given)
    batch = drawn(np.asarray(y))
    assert 0 < batch.sum() < CHANNELS
    wanted = by_hand(batch)
    near(np.moveaxis(np.asarray(y), -1, 1), wanted[0])
    near(mean, wanted[1])
    near(var, wanted[2])
    slopes = quick_jit(jax.grad(lambda *given: (layer(key, *given)[0] * SLOPE).sum(), (0, 1, 2)))
    of_scale, of_bias, of_x = slopes(*given)
    near(np.moveaxis(np.asarray(of_x), -1, 1), wanted[3])
    near(of_scale, wanted[4])
    near(of_bias, wanted[5])


def test_half_of_the_channels_go_by_the_batch():
    run = quick_jit(jax.vmap(lambda key: layer(key, NUMBERS["scale"], NUMBERS["bias"], X)[0]))
    counts = sum(drawn(y).astype(int) for y in np.asarray(run(jax.random.split(KEY, 200))))
    # 200 tosses of each of 16 coins; 36 from the middle is five standard deviations.
    assert (np.abs(counts - 100) < 36).all()


@pytest.fixture(scope="module")
def small():
    """A ResNet of 8 layers with projections, numbers for it, and a batch."""
    backbone = resnet_cifar._resnet(1, "B", 3)
    shapes = jax.eval_shape(backbone.init, KEY, None)
    params = jax.tree.map(lambda leaf: RNG.normal(0, 0.3, leaf.shape).astype("f"), shapes.params)
    state = jax.tree.map(lambda leaf: RNG.uniform(0.5, 2, leaf.shape).astype("f"), shapes.state)
    x = RNG.normal(size=(4, 8, 8, 3)).astype("f")
    return backbone, params, state, x


def passed(small, mode, key=KEY):
    """Features and state after a pass; a new program every time, for the share may have changed."""
    backbone, params, state, x = small

    def run(params, state, x):
        return backbone.apply(params, state, x, rng=key, mode=mode)

    return quick_jit(run)(params, state, x)


@pytest.mark.parametrize(("share", "like"), [(1.0, "train"), (0.0, "tune")])
def test_the_two_ends_are_the_modes_train_and_tune(small, monkeypatch, share, like):
    monkeypatch.setattr(batch_norm, "BATCH_SHARE", share)
    features, state = passed(small, "stochastic")
    wanted, trained = passed(small, like)
    jax.tree.map(near, features, wanted)
    if like == "train":
        jax.tree.map(near, state, trained)
    else:
        before = trees.flat(small[2])
        assert all((leaf != before[path]).any() for path, leaf in trees.flat(state).items())


def test_every_pass_and_layer_draws_anew_and_a_key_decides(small):
    backbone, params, state, x = small

    @quick_jit
    def run(key):
        whole, moved = backbone.apply(params, state, x, rng=key, mode="stochastic")
        carry, pieces, stats = x, {}, state
        for number in range(len(backbone.stages)):
            carry, new, stats = backbone.apply_stages(
                params, stats, carry, start=number, stop=number + 1, rng=key, mode="stochastic"
            )
            pieces |= new
        return (whole, moved), (pieces, stats)

    one, in_pieces = run(jax.random.key(1))
    jax.tree.map(near, one, in_pieces)
    again, _ = run(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    other, _ = run(jax.random.key(2))
    assert np.abs(one[0]["stem"] - other[0]["stem"]).max() > 0.1
    graph = backbone._module(params, state, KEY, "stochastic")
    norms = [part for _, part in nnx.iter_modules(graph) if isinstance(part, BatchNorm)]
    draws = {str(jax.random.key_data(norm.key.get_value())) for norm in norms}
    assert len(draws) == len(norms) == 9


def test_initial_numbers_and_other_modes_know_nothing_of_it(small):
    _, params, state, _ = small
    assert not any("key" in path for path in [*trees.flat(params), *trees.flat(state)])
    for mode in ("eval", "tune"):
        one, other = (passed(small, mode, jax.random.key(seed)) for seed in (1, 2))
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_only_networks_of_this_norm_have_the_mode():
    having = (resnet_cifar.resnet20(), resnet_imagenet.resnet18(), resnet_variants.resnet50d())
    assert all("stochastic" in backbone.modes for backbone in having)
    for backbone in (resnet8(), convnext_tiny(), vit()):
        assert backbone.modes == {"train", "tune", "eval"}
