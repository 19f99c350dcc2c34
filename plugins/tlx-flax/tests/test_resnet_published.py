"""Published weights give what they give in PyTorch: accuracy, and features of a real picture."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from tlx_flax import resnet_cifar
from tlx_flax.inputs import IMAGENET
from tlx_flax.resnet_cifar import resnet20
from tlx_flax.resnet_imagenet import resnet18
from torch.nn import functional as F

from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, Variables
from tlx.weights.matching import match

KEY = jax.random.key(0)
MEAN, STD = np.float32(IMAGENET.mean), np.float32(IMAGENET.std)
"""What all of these weights were trained with; for CIFAR, too, ImageNet's."""
CIFAR = {"resnet20": "12fca82f", "resnet32": "d509ac18", "resnet44": "014dd654"}
CIFAR["resnet56"] = "4bfd9763"


def zeros(backbone, classes=0):
    """Variables of a backbone, and of a classifier if there are classes."""
    body = jax.eval_shape(backbone.init, KEY, None)
    params, state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), body)
    if not classes:
        return Variables({"backbone": params}, {"backbone": state})
    head = {"kernel": jnp.zeros((backbone.features[-1].channels, classes))}
    head["bias"] = jnp.zeros(classes)
    return Variables({"backbone": params, "head": head}, {"backbone": state})


def picture(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


@pytest.mark.parametrize("name", CIFAR)
def test_original_files_are_loaded_whole(name, shared):
    file = torch.load(shared(f"cifar_resnet/{name}-{CIFAR[name]}.th"), "cpu", weights_only=True)
    named = {key: tensor.numpy() for key, tensor in file["state_dict"].items()}
    backbone = getattr(resnet_cifar, name)()
    like = zeros(backbone, 10)
    _, report = match(Tensors(named, name), like, backbone.dialects)
    assert (report.dialect, report.initialised, report.skipped) == ("akamaster", (), ())
    assert len(report.loaded) == len(jax.tree.leaves(like))


def test_first_thousand_test_pictures(shared, cifar10_test):
    backbone = resnet20()
    with np.load(shared("cifar_resnet/resnet20-12fca82f.npz")) as file:
        named = {name: file[name] for name in file}
    (params, state), report = match(Tensors(named, "it"), zeros(backbone, 10), backbone.dialects)
    assert (report.initialised, report.skipped) == ((), ())
    images, labels = cifar10_test(1000)
    x = (images.astype(np.float32) / 255 - MEAN) / STD

    @quick_jit
    def logits(x):
        features, _ = backbone.apply(params["backbone"], state["backbone"], x, rng=KEY, mode="eval")
        return features["pooled"] @ params["head"]["kernel"] + params["head"]["bias"]

    got = np.concatenate([logits(x[i : i + 250]) for i in range(0, 1000, 250)])
    right = int((got.argmax(1) == labels).sum())
    # Published: 91.73 % of all 10,000; PyTorch gets 913 of these right.
    assert abs(right - 913) <= 2

    theirs = torch_logits(named, x)
    np.testing.assert_allclose(got, theirs, atol=1e-3)
    assert right == int((theirs.argmax(1) == labels).sum())


def torch_logits(named, x):
    """The same weights in PyTorch, network written out from the paper."""
    w = {name: torch.tensor(array) for name, array in named.items()}

    def norm(x, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    with torch.no_grad():
        y = F.relu(norm(F.conv2d(picture(x), w["conv1.weight"], padding=1), "bn1"))
        for layer in (1, 2, 3):
            for block in range(3):
                at = f"layer{layer}.{block}"
                stride = 2 if block == 0 and layer > 1 else 1
                z = F.conv2d(y, w[f"{at}.conv1.weight"], stride=stride, padding=1)
                z = F.relu(norm(z, f"{at}.bn1"))
                z = norm(F.conv2d(z, w[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
                extra = (z.shape[1] - y.shape[1]) // 2
                y = F.pad(y[:, :, ::stride, ::stride], (0, 0, 0, 0, extra, extra))
                y = F.relu(y + z)
        return F.linear(y.mean((2, 3)), w["linear.weight"], w["linear.bias"]).numpy()


def test_a_trunk_with_folded_batch_norm_on_a_real_picture(shared):
    backbone = resnet18()
    with np.load(shared("resnet18_imagenet_trunk.npz")) as file:
        named = {name: file[name] for name in file}
    (params, state), report = match(Tensors(named, "it"), zeros(backbone), backbone.dialects)
    assert (report.dialect, report.skipped) == ("folded", ())
    # A kernel and four leaves of its batch norm for each of 15 convolutions.
    assert len(report.loaded) == 5 * len(named) // 2 == 75
    assert all("/stage4/" in leaf.path for leaf in report.initialised)
    with zipfile.ZipFile(shared("hymenoptera_256.zip")) as pictures:
        first = min(name for name in pictures.namelist() if name.startswith("val/bees/"))
        image = Image.open(io.BytesIO(pictures.read(first))).convert("RGB").resize((224, 224))
    x = ((np.asarray(image, np.float32) / 255 - MEAN) / STD)[None]
    features, _ = quick_jit(backbone.apply, static_argnames="mode")(
        params["backbone"], state["backbone"], x, rng=KEY, mode="eval"
    )
    for name, wanted in torch_trunk(named, x).items():
        wanted = np.moveaxis(wanted.numpy(), 1, -1)
        assert np.abs(features[name] - wanted).max() <= 1e-4 * np.abs(wanted).max()


def torch_trunk(named, x):
    """Stem to third stage with the same weights in PyTorch: convolutions with bias, no norm."""
    w = {name: torch.tensor(array) for name, array in named.items()}

    def conv(x, name, stride=1):
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, w[f"{name}.bias"], stride, kernel.shape[-1] // 2)

    y = F.relu(conv(picture(x), "conv1", 2))
    features = {"stem": y}
    y = F.max_pool2d(y, 3, 2, 1)
    for layer in (1, 2, 3):
        for block in (0, 1):
            at = f"layer{layer}.{block}"
            stride = 2 if block == 0 and layer > 1 else 1
            z = conv(F.relu(conv(y, f"{at}.conv1", stride)), f"{at}.conv2")
            y = F.relu(z + (conv(y, f"{at}.downsample.0", 2) if stride == 2 else y))
        features[f"stage{layer}"] = y
    return features
