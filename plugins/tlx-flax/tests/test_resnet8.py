"""The Keras ResNet-8 with its real weights, against the network written in PyTorch."""

import jax
import numpy as np
import pytest
import torch
from tlx_flax.resnet8 import resnet8
from tlx_image.pixels import normalize
from torch.nn import functional as F

from tlx import registry
from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, unlabelled
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)


@pytest.fixture
def named(shared):
    with np.load(shared("resnet8_cifar10_mlperf_tiny.npz")) as file:
        return {name: file[name] for name in file}


def loaded(named):
    backbone = resnet8()
    head = registry.build("heads", "softmax", {"classes": 10})
    model = Model(backbone, head, backbone.inputs)
    batch = unlabelled({"image": np.zeros((1, 32, 32, 3), np.float32)})
    like = jax.eval_shape(model.init, KEY, batch)
    return model, *match(Tensors(named, "the file"), like, backbone.dialects)


def by_hand(named, x, training=False):
    """Features and logits from (B,3,32,32) in 0..255, and the running statistics afterwards."""
    w = {name: torch.tensor(tensor) for name, tensor in named.items()}
    statistics = {}

    def conv(x, name, stride=1):
        kernel = w[f"{name}.kernel"].permute(3, 2, 0, 1)
        total = max(kernel.shape[-1] - stride, 0) if stride > 1 else kernel.shape[-1] - 1
        ends = (total // 2, total - total // 2)
        return F.conv2d(F.pad(x, (*ends, *ends)), kernel, w[f"{name}.bias"], stride)

    def norm(x, name):
        mean, var = (w[f"{name}.moving_{kind}"] for kind in ("mean", "variance"))
        if training:
            # Keras' average keeps 99 % and takes the biased variance.
            mean = statistics[f"{name}.moving_mean"] = 0.99 * mean + 0.01 * x.mean((0, 2, 3))
            biased = x.var((0, 2, 3), correction=0)
            statistics[f"{name}.moving_variance"] = 0.99 * var + 0.01 * biased
            mean, var = x.mean((0, 2, 3)), biased
        return F.batch_norm(x, mean, var, w[f"{name}.gamma"], w[f"{name}.beta"], eps=1e-3)

    def bn(number):
        return f"batch_normalization_{number}" if number else "batch_normalization"

    x = F.relu(norm(conv(x, "conv2d"), bn(0)))
    features = {"stem": x}
    for stage, (first, stride) in enumerate(((1, 1), (3, 2), (6, 2)), 1):
        y = F.relu(norm(conv(x, f"conv2d_{first}", stride), bn(2 * stage - 1)))
        y = norm(conv(y, f"conv2d_{first + 1}"), bn(2 * stage))
        x = F.relu(y + (x if stride == 1 else conv(x, f"conv2d_{first + 2}", stride)))
        features[f"stage{stage}"] = x
    features["pooled"] = x.mean((2, 3))
    features["logits"] = features["pooled"] @ w["dense.kernel"] + w["dense.bias"]
    return {n: np.moveaxis(f.numpy(), 1, -1) for n, f in features.items()}, statistics


def near(got, wanted, name):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, atol=1e-4 * scale, rtol=0, err_msg=name)


def test_real_weights_on_real_pictures(named, cifar10_test):
    model, variables, report = loaded(named)
    assert (report.initialised, report.skipped, report.dialect) == ((), (), "keras")
    assert report.notes == ()
    images, labels = cifar10_test(500)

    @quick_jit
    def run(image):
        batch = unlabelled({"image": image})
        features, _ = model.features(variables, batch, rng=KEY, mode="eval")
        inputs = batch.inputs
        logits, _ = model.apply_head(variables, features, inputs=inputs, rng=KEY, mode="eval")
        return {**features, "logits": logits}

    got = run(images)
    with torch.no_grad():
        wanted, _ = by_hand(named, torch.tensor(np.moveaxis(images, -1, 1).astype(np.float32)))
    assert set(got) == set(wanted)
    for name, feature in wanted.items():
        near(got[name], feature, name)
    right = int((np.asarray(got["logits"]).argmax(1) == labels).sum())
    assert right == int((wanted["logits"].argmax(1) == labels).sum())
    # All 10,000 give 87.19 %.
    assert 0.84 < right / 500 < 0.90

    back = state_dict(variables, model.backbone.dialects[0])
    assert set(back) == set(named)
    for name, tensor in named.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_statistics_of_one_step_are_keras(named, cifar10_test):
    model, variables, _ = loaded(named)
    images, _ = cifar10_test(64)

    @quick_jit
    def run(image):
        parts = (variables.params["backbone"], variables.state["backbone"])
        x = normalize(model.inputs, image)
        return model.backbone.apply(*parts, x, rng=KEY, mode="train")

    features, state = run(images)
    x = torch.tensor(np.moveaxis(images, -1, 1).astype(np.float32))
    with torch.no_grad():
        wanted, statistics = by_hand(named, x, training=True)
    near(features["pooled"], wanted["pooled"], "pooled")
    moved = variables._replace(state={**variables.state, "backbone": state})
    names = state_dict(moved, model.backbone.dialects[0])
    assert len(statistics) == 14
    for name, value in statistics.items():
        near(names[name], value.numpy(), name)
        assert not np.array_equal(names[name], named[name])


def test_slashes_are_understood_as_well(named):
    _, variables, report = loaded({name.replace(".", "/"): t for name, t in named.items()})
    assert report.initialised == report.skipped == ()
    jax.tree.map(np.testing.assert_array_equal, variables, loaded(named)[1])
