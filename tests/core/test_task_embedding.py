"""The embedding of a task against gradients by hand: one convolution as large as the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tlx_image import ImageInput

from tlx.backbones.functions import wrap_functions
from tlx.model import Model
from tlx.selection.task_embedding import _by_filter, task_embedding
from tlx.types import Batch, LeafInfo, Variables

RNG = np.random.default_rng(0)
PICTURES = RNG.uniform(size=(6, 4, 4, 3)).astype(np.float32)
KERNEL = RNG.normal(size=(4, 4, 3, 5)).astype(np.float32)
HEAD = RNG.normal(size=(5, 3)).astype(np.float32)


def init(rng, x):
    return {"conv": {"kernel": jnp.zeros((4, 4, 3, 5)), "bias": jnp.zeros(5)}}


def apply(params, x):
    axes = ("NHWC", "HWIO", "NHWC")
    conv = params["conv"]
    x = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), "VALID", dimension_numbers=axes)
    return {"pooled": jax.nn.relu(x + conv["bias"]).mean((1, 2))}


def answer(head, features, batch):
    assert batch.inputs["image"].shape == (1, 4, 4, 3)
    return features["pooled"] @ head


def embedded(pictures, index, weight, seed=7):
    backbone = wrap_functions(init, apply, ("pooled",), ImageInput(size=(4, 4)))
    model = Model(backbone, None, backbone.inputs)
    params = {"conv": {"kernel": jnp.asarray(KERNEL), "bias": jnp.zeros(5)}}
    batch = Batch({"image": pictures}, {}, np.asarray(index), np.asarray(weight))
    variables = Variables({"backbone": params}, {"backbone": {}})
    return task_embedding(model, variables, answer, jnp.asarray(HEAD), [batch], seed=seed)


def by_torch(pictures, index, seed=7):
    """Squared gradients for the same labels, mean over examples and each filter."""
    mean, std = (torch.tensor(v) for v in (ImageInput().mean, ImageInput().std))
    total = np.zeros(5)
    for picture, number in zip(pictures, index, strict=True):
        kernel = torch.tensor(KERNEL, requires_grad=True)
        x = (torch.tensor(picture) - mean) / std
        feature = torch.relu(torch.einsum("hwc,hwcf->f", x, kernel))
        likely = torch.log_softmax(feature @ torch.tensor(HEAD), -1)
        key = jax.random.fold_in(jax.random.key(seed), number)
        label = int(jax.random.categorical(key, jnp.asarray(likely.detach().numpy())))
        likely[label].backward()
        total += kernel.grad.square().mean((0, 1, 2)).double().numpy()
    return total / len(pictures)


def test_it_is_the_mean_squared_gradient_of_each_filter():
    found = embedded(PICTURES, range(6), [1] * 6)
    assert found.shape == (5,)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, by_torch(PICTURES, range(6)), rtol=1e-4)


def test_padding_does_not_count_and_order_does_not_matter():
    whole = embedded(PICTURES, range(6), [1] * 6)
    padded = np.concatenate([PICTURES[::-1], PICTURES[:2]])
    again = embedded(padded, [5, 4, 3, 2, 1, 0, 0, 1], [1] * 6 + [0] * 2)
    np.testing.assert_allclose(again, whole, rtol=1e-5)


def test_filters_of_layers_and_heads_are_filters_of_their_own():
    kernel = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    info = LeafInfo("all", "kernel", (2, 3), (0,))
    wanted = kernel.transpose(0, 2, 3, 1).reshape(30, 4)
    np.testing.assert_array_equal(_by_filter(kernel, info), wanted)
    conv = _by_filter(kernel, LeafInfo("all", "kernel"))
    np.testing.assert_array_equal(conv, kernel.reshape(60, 2).T)
