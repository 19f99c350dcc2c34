"""SqueezeNet with its real weights on real pictures, against the network written in PyTorch."""

import math
import zipfile
from functools import partial

import jax
import numpy as np
import pytest
import torch
from tlx_flax.squeezenet import squeezenet
from tlx_flax.squeezenet_head import SqueezeNetHead
from tlx_image import normalize
from tlx_image.decode import fit, read
from torch.nn import functional as F

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, unlabelled
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)
ANT, BEE = 310, 309
"""ImageNet's class numbers, in the order of sorted WordNet ids."""


def model():
    backbone = squeezenet()
    return Model(backbone, SqueezeNetHead(1000), backbone.inputs)


@pytest.fixture
def named(shared):
    """The published tensors: each kernel is a code book and a number into it for every weight."""
    with np.load(shared("squeezenet10_imagenet.npz")) as file:
        layers = [name.removesuffix(".code") for name in file if name.endswith(".code")]
        kernels = {f"{n}.weight": file[f"{n}.codebook"][file[f"{n}.code"]] for n in layers}
        return kernels | {f"{n}.bias": file[f"{n}.bias"] for n in layers}


@pytest.fixture
def insects(shared):
    """Three ants and three bees (6,227,227,3) uint8, as evaluation would read them."""
    spec, found = squeezenet().inputs, []
    with zipfile.ZipFile(shared("hymenoptera_256.zip")) as archive:
        for kind in ("ants", "bees"):
            names = sorted(n for n in archive.namelist() if f"val/{kind}/" in n and n[-1] != "/")
            found += [read(archive.read(name)) for name in names[:3]]
    return np.stack([fit(image, spec.size, spec.crop) for image in found])


def by_hand(named, x):
    """Every feature and the logits, from (B,3,H,W) blue, green and red less their means."""
    w = {name: torch.tensor(tensor) for name, tensor in named.items()}

    def conv(x, name, **options):
        return F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options))

    features = {"conv1": conv(x, "conv1", stride=2)}
    x = F.max_pool2d(features["conv1"], 3, 2, ceil_mode=True)
    for number in range(2, 10):
        name = f"fire{number}"
        x = conv(x, f"{name}.conv1x1_1")
        x = torch.cat([conv(x, f"{name}.conv1x1_2"), conv(x, f"{name}.conv3x3_2", padding=1)], 1)
        features[name] = x
        if number in (4, 8):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    features["pooled"] = x.mean((2, 3))
    features["logits"] = conv(x, "conv_final", padding=1).mean((2, 3))
    return {n: np.moveaxis(f.numpy(), 1, -1) for n, f in features.items()}


def near(got, wanted, name):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, atol=1e-4 * scale, rtol=0, err_msg=name)


def everything(network, variables, x):
    """Every feature and the logits of pictures that are as the network wants them."""
    parts = (variables.params["backbone"], variables.state["backbone"])
    features, _ = network.backbone.apply(*parts, x, rng=KEY, mode="eval")
    logits, _ = network.apply_head(variables, features, inputs={"image": x}, rng=KEY, mode="eval")
    return {**features, "logits": logits}


def test_real_weights_on_real_pictures(named, insects):
    network = model()
    batch = unlabelled({"image": insects})
    like = jax.eval_shape(network.init, KEY, batch)
    variables, report = match(Tensors(named, "the file"), like, network.backbone.dialects)
    assert (report.initialised, report.skipped, report.dialect) == ((), (), "caffe")
    assert sum(math.prod(leaf.shape) for leaf in report.loaded) == 1_248_424

    # Preprocessing by hand: RGB to BGR, then the means of blue, green and red.
    x = insects[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    run = jax.jit(partial(everything, network))
    got = run(variables, normalize(network.inputs, insects))
    with torch.no_grad():
        wanted = by_hand(named, torch.tensor(np.moveaxis(x, -1, 1).copy()))
    assert set(got) == set(wanted)
    for name, feature in wanted.items():
        near(got[name], feature, name)
    classes = got["logits"].argmax(1).tolist()
    assert ANT in classes[:3]
    assert BEE in classes[3:]

    back = state_dict(variables, network.backbone.dialects[0])
    assert set(back) == set(named)
    for name, tensor in named.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_poolings_count_windows_over_the_edge():
    """The first and the last pooling hang over the edge along one side, the second along the
    other."""
    size = (58, 64)
    network = model()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    batch = unlabelled({"image": np.zeros((1, 227, 227, 3), np.float32)})
    like = jax.eval_shape(network.init, KEY, batch)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype("f"), like)
    named = state_dict(variables, network.backbone.dialects[0])
    got = quick_jit(partial(everything, network))(variables, x)
    with torch.no_grad():
        wanted = by_hand(named, torch.tensor(np.moveaxis(x, -1, 1).copy()))
    for name, feature in wanted.items():
        near(got[name], feature, name)


def test_the_head_says_what_it_cannot_read():
    vector, maps = np.zeros((2, 8), np.float32), np.zeros((2, 3, 3, 8), np.float32)
    with pytest.raises(ConfigError, match="reads a map"):
        SqueezeNetHead(5).init(KEY, {"fire9": vector})
    with pytest.raises(ConfigError, match="Did you mean 'fire8'"):
        SqueezeNetHead(5).init(KEY, {"fire8": maps})
    with pytest.raises(ConfigError, match="at least 2 classes"):
        SqueezeNetHead(1)
    with pytest.raises(ConfigError, match="padding"):
        SqueezeNetHead(5, padding=-1)
