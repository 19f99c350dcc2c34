"""Files of weights: real ones, PyTorch's, tlx's own, and what is said of broken ones."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from tlx import registry
from tlx.errors import ConfigError, WeightsError
from tlx.manifest import digest
from tlx.model_folder import save_model
from tlx.protocols import WeightSource
from tlx.trees import flat
from tlx.types import InputSpec, Variables

LIKE = Variables({"backbone": {"kernel": jnp.zeros((3, 2))}}, {"backbone": {"mean": jnp.zeros(2)}})
FILLED = {
    "params/backbone/kernel": np.arange(6, dtype=np.float32).reshape(3, 2),
    "state/backbone/mean": np.ones(2, np.float32),
}


def write(path, tensors=FILLED):
    save_file(tensors, path) if path.suffix == ".safetensors" else np.savez(path, **tensors)
    return path


def source(name, path, **options):
    return registry.build("weights", name, {"path": str(path), **options})


class Part:
    def __init__(self, name, **options):
        self.name, self.options = name, options


INPUTS = InputSpec(size=(8, 8), mean=(0.1, 0.2, 0.3))


def model(folder, head=None, classes=()):
    variables = Variables(
        {"backbone": {"kernel": FILLED["params/backbone/kernel"]}, "head": {}},
        {"backbone": {"mean": FILLED["state/backbone/mean"]}, "head": {}},
    )
    save_model(
        folder,
        backbone=Part("toy"),
        head=head,
        inputs=INPUTS,
        canvas=(8, 8),
        classes=classes,
        variables=variables,
    )
    return folder


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_a_file_of_leaf_paths(tmp_path, name):
    weights = source(name, write(tmp_path / f"w.{name}"))
    assert isinstance(weights, WeightSource)
    assert (weights.input, weights.classes) == (None, None)
    variables, report = weights.load(LIKE, None)
    assert set(report.loaded) == set(FILLED)
    assert (report.initialised, report.skipped) == ((), ())
    for path, leaf in flat(variables).items():
        np.testing.assert_array_equal(leaf, FILLED[path])


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_the_digest_is_checked_where_one_is_given(tmp_path, name):
    file = write(tmp_path / f"w.{name}")
    sha256 = digest(file)
    for given in (sha256, sha256[:8].upper()):
        assert source(name, file, sha256=given).load(LIKE, None)[1].loaded
    with pytest.raises(WeightsError, match=f"is not the file that was meant.*{sha256}, not 12fca"):
        source(name, file, sha256="12fca82f").load(LIKE, None)


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_what_is_no_such_file(tmp_path, name):
    write(tmp_path / f"resnet20.{name}")
    with pytest.raises(WeightsError, match=rf"no file .*Did you mean 'resnet20\.{name}'\?"):
        source(name, tmp_path / f"resnet2O.{name}").load(LIKE, None)
    with pytest.raises(WeightsError, match="its folder does not exist"):
        source(name, tmp_path / "nowhere" / "x").load(LIKE, None)
    with pytest.raises(WeightsError, match=rf"is a folder.* It holds resnet20\.{name}"):
        source(name, tmp_path).load(LIKE, None)
    for text in (b"", b"hello" * 100, b"PK\x03\x04 not really"):
        (tmp_path / "odd").write_bytes(text)
        with pytest.raises(WeightsError, match=r"odd (is no|cannot be read)"):
            source(name, tmp_path / "odd").load(LIKE, None)


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_a_file_that_was_cut_short(tmp_path, name):
    file = write(tmp_path / f"w.{name}")
    whole = file.read_bytes()
    for length in range(0, len(whole), 40):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"w\."):
            source(name, file).load(LIKE, None)


def test_a_flipped_bit_in_an_npz_is_noticed_or_harmless(tmp_path):
    file = write(tmp_path / "w.npz")
    whole, noticed, wrong = file.read_bytes(), 0, []
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            variables, report = source("npz", file).load(LIKE, None)
        except WeightsError:
            noticed += 1
            continue
        found = {path: flat(variables)[path] for path in report.loaded}
        if any(not np.array_equal(leaf, FILLED[path]) for path, leaf in found.items()):
            wrong.append(place)
    assert wrong == []
    assert noticed > 10


def test_pickled_objects_are_refused(tmp_path):
    file = tmp_path / "w.npz"
    np.savez(file, **{"params/backbone/kernel": np.array([{}, object], dtype=object)})
    with pytest.raises(WeightsError, match="more than plain arrays"):
        source("npz", file).load(LIKE, None)


def test_an_unknown_layout_is_refused_when_it_is_built(tmp_path):
    with pytest.raises(ConfigError, match="layout"):
        source("npz", tmp_path / "w.npz", layout="tensorflow")


# --- tlx's own --------------------------------------------------------------------------------


def test_a_run_brings_its_preprocessing_and_its_classes(tmp_path):
    folder = model(tmp_path / "run" / "model", Part("softmax"), ("ant", "bee"))
    for weights in (
        source("run", tmp_path / "run"),
        source("run", folder),
        source("safetensors", folder / "model.safetensors"),
    ):
        assert isinstance(weights, WeightSource)
        assert weights.input == INPUTS
        assert weights.classes == ("ant", "bee")
        variables, report = weights.load(LIKE, lambda name: None)
        assert set(report.loaded) == set(FILLED)
        np.testing.assert_array_equal(
            variables.params["backbone"]["kernel"], FILLED["params/backbone/kernel"]
        )


def test_a_run_without_a_head_has_no_classes(tmp_path):
    weights = source("run", model(tmp_path))
    assert weights.input == INPUTS
    assert weights.classes is None


def test_a_damaged_run_is_refused(tmp_path):
    file = model(tmp_path) / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    for weights in (source("run", tmp_path), source("safetensors", file)):
        with pytest.raises(WeightsError, match="damaged"):
            weights.load(LIKE, None)
    with pytest.raises(WeightsError, match="no folder"):
        _ = source("run", tmp_path / "nowhere").input


# --- other people's ---------------------------------------------------------------------------


def test_a_file_that_pytorch_wrote_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1, stride=2),
        torch.nn.BatchNorm2d(5),
        torch.nn.Flatten(1),
        torch.nn.Linear(5 * 4 * 4, 2),
    )
    net.train()(torch.randn(16, 3, 8, 8))  # so that the running statistics are not 0 and 1
    net.eval()
    save_torch(net.state_dict(), tmp_path / "net.safetensors")
    names = {
        "0.weight": "params/backbone/conv/kernel",
        "0.bias": "params/backbone/conv/bias",
        "1.weight": "params/backbone/bn/scale",
        "1.bias": "params/backbone/bn/bias",
        "1.running_mean": "state/backbone/bn/mean",
        "1.running_var": "state/backbone/bn/var",
        "3.weight": "params/head/kernel",
        "3.bias": "params/head/bias",
    }
    like = Variables(
        {
            "backbone": {
                "conv": {"kernel": jnp.zeros((3, 3, 3, 5)), "bias": jnp.zeros(5)},
                "bn": {"scale": jnp.zeros(5), "bias": jnp.zeros(5)},
            },
            "head": {"kernel": jnp.zeros((80, 2)), "bias": jnp.zeros(2)},
        },
        {"backbone": {"bn": {"mean": jnp.zeros(5), "var": jnp.zeros(5)}}},
    )
    (params, state), report = source("safetensors", tmp_path / "net.safetensors").load(
        like, names.get
    )
    assert (report.initialised, report.skipped) == ((), ())
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    conv, bn = params["backbone"]["conv"], params["backbone"]["bn"]
    stats = state["backbone"]["bn"]
    y = jax.lax.conv_general_dilated(
        x, conv["kernel"], (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = (y + conv["bias"] - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5)
    y = y * bn["scale"] + bn["bias"]
    y = y.transpose(0, 3, 1, 2).reshape(4, -1)  # PyTorch flattens (C,H,W)
    y = y @ params["head"]["kernel"] + params["head"]["bias"]
    with torch.no_grad():
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)


def shared(name):
    root = Path(__file__).resolve().parents[3]
    file = Path(os.environ.get("TLX_SHARED_DATA", root.parent / "shared" / "data")) / name
    if not file.exists():
        pytest.skip(f"the data file {name} is not here")
    return file


def test_the_published_cifar_resnet20():
    """Every tensor of a real file finds its leaf, in its layout."""
    file = shared("cifar_resnet/resnet20-12fca82f.npz")
    kinds = {
        ("conv", "weight"): "params/{}/kernel",
        ("bn", "weight"): "params/{}/scale",
        ("bn", "bias"): "params/{}/bias",
        ("bn", "running_mean"): "state/{}/mean",
        ("bn", "running_var"): "state/{}/var",
    }

    def names(name):
        layer, _, kind = name.rpartition(".")
        if layer == "linear":
            return f"params/head/{'kernel' if kind == 'weight' else kind}"
        role = re.sub(r"\d", "", layer.rpartition(".")[2])
        return kinds[role, kind].format("backbone/" + layer.replace(".", "/"))

    with np.load(file, allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    params, state = {}, {}
    for name, tensor in stored.items():
        first, *parts, last = (names(name) or "").split("/")
        shape = tensor.shape
        if tensor.ndim == 4:
            shape = (shape[2], shape[3], shape[1], shape[0])
        node = params if first == "params" else state
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = jnp.zeros(shape[::-1] if tensor.ndim == 2 else shape)
    weights = source("npz", file, sha256="1328f4302b7d8439978912a9e91442076d885c4310b54d70857efb")
    variables, report = weights.load(Variables(params, state), names)
    assert (report.initialised, report.skipped) == ((), ())
    assert len(report.loaded) == len(stored)
    # The published count of ResNet-20's parameters.
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == 269_722
    found = flat(variables)
    np.testing.assert_array_equal(
        found["params/backbone/layer2/0/conv1/kernel"],
        np.einsum("oihw->hwio", stored["layer2.0.conv1.weight"]),
    )
    np.testing.assert_array_equal(found["params/head/kernel"], stored["linear.weight"].T)
