"""Files of weights: real ones, other people's, tlx's own, and what is said of broken ones."""

import os
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from tlx_image import ImageInput
from tlx_image.model_images import saved_images

from tlx import registry
from tlx.contracts.file_facts import classes_of, input_of
from tlx.errors import ConfigError, WeightsError
from tlx.files.manifest import digest
from tlx.protocols import WeightSource, Writes
from tlx.run_folder.model_folder import save_model
from tlx.types import Variables

FILLED = {
    "params/backbone/kernel": np.arange(6, dtype=np.float32).reshape(3, 2),
    "state/backbone/mean": np.ones(2, np.float32),
}


def write(path, tensors=FILLED):
    save_file(tensors, path) if path.suffix == ".safetensors" else np.savez(path, **tensors)
    return path


def source(name, path, **options):
    return registry.build("weights", name, {"path": str(path), **options})


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


class Part:
    def __init__(self, name, **options):
        self.name, self.options = name, options


INPUTS = ImageInput(size=(8, 8), mean=(0.1, 0.2, 0.3))


def model(folder, head=None, classes=()):
    variables = Variables(
        {"backbone": {"kernel": FILLED["params/backbone/kernel"]}, "head": {}},
        {"backbone": {"mean": FILLED["state/backbone/mean"]}, "head": {}},
    )
    save_model(
        folder,
        backbone=Part("toy"),
        head=head,
        **saved_images(INPUTS, (8, 8)),
        classes=classes,
        variables=variables,
    )
    return folder


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_a_file_of_leaf_paths(tmp_path, name):
    file = write(tmp_path / f"w.{name}")
    weights = source(name, file)
    assert isinstance(weights, WeightSource)
    assert isinstance(weights, Writes) == (name == "safetensors")
    assert (input_of(weights), classes_of(weights)) == (None, None)
    found = weights.tensors()
    equal(found.values, FILLED)
    assert (found.origin, found.sha256) == (str(file), digest(file))


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_every_type_of_number(tmp_path, name):
    dtypes = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool"
    tensors = {d: np.arange(6).reshape(2, 3).astype(d) for d in dtypes.split()}
    tensors["scalar"] = np.array(3.0, np.float32)
    tensors["none"] = np.zeros((0, 3), np.float32)
    tensors["bfloat16"] = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    equal(source(name, write(tmp_path / f"w.{name}", tensors)).tensors().values, tensors)


@pytest.mark.parametrize("name", ["safetensors", "npz", "torch"])
def test_the_digest_is_checked_where_one_is_given(tmp_path, name):
    file = tmp_path / f"w.{name}"
    source(name, file).write(FILLED, {}) if name != "npz" else write(file)
    sha256 = digest(file)
    for given in (sha256, sha256[:8].upper()):
        assert source(name, file, sha256=given).tensors().values
    with pytest.raises(WeightsError, match=f"is not the file that was meant.*{sha256}, not 12fca"):
        source(name, file, sha256="12fca82f").tensors()


@pytest.mark.parametrize("name", ["safetensors", "npz", "torch"])
def test_what_is_no_such_file(tmp_path, name):
    ending = "pth" if name == "torch" else name
    (tmp_path / f"resnet20.{ending}").write_bytes(b"x")
    with pytest.raises(WeightsError, match=rf"no file .*Did you mean 'resnet20\.{ending}'\?"):
        source(name, tmp_path / f"resnet2O.{ending}").tensors()
    with pytest.raises(WeightsError, match="its folder does not exist"):
        source(name, tmp_path / "nowhere" / "x").tensors()
    with pytest.raises(WeightsError, match=rf"is a folder.* It holds resnet20\.{ending}"):
        source(name, tmp_path).tensors()
    for text in (b"", b"hello" * 100, b"PK\x03\x04 not really", b"\x80\x02N."):
        (tmp_path / "odd").write_bytes(text)
        with pytest.raises(WeightsError, match=r"odd (is |has |cannot be read)"):
            source(name, tmp_path / "odd").tensors()


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_a_file_that_was_cut_short_at_every_length(tmp_path, name):
    file = write(tmp_path / f"w.{name}")
    weights, whole = source(name, file), file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"w\."):
            weights.tensors()


def test_an_option_that_is_not_there_is_refused_when_it_is_built(tmp_path):
    with pytest.raises(ConfigError, match="layout"):
        source("npz", tmp_path / "w.npz", layout="torch")


# --- tlx's own --------------------------------------------------------------------------------


def test_a_run_brings_its_preprocessing_and_its_classes(tmp_path):
    folder = model(tmp_path / "run" / "model", Part("softmax"), ("ant", "bee"))
    for weights in (
        source("run", tmp_path / "run"),
        source("run", folder),
        source("safetensors", folder / "model.safetensors"),
    ):
        assert isinstance(weights, WeightSource)
        assert weights.input == replace(INPUTS, canvas=(8, 8))
        assert weights.classes == ("ant", "bee")
        found = weights.tensors()
        equal(found.values, FILLED)
        assert found.sha256 == digest(folder / "model.safetensors")


def test_a_run_without_a_head_has_no_classes(tmp_path):
    weights = source("run", model(tmp_path))
    assert weights.input == replace(INPUTS, canvas=(8, 8))
    assert weights.classes is None


def test_a_damaged_run_is_refused(tmp_path):
    file = model(tmp_path) / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    for weights in (source("run", tmp_path), source("safetensors", file)):
        with pytest.raises(WeightsError, match="damaged"):
            weights.tensors()
    with pytest.raises(WeightsError, match="no folder"):
        _ = source("run", tmp_path / "nowhere").input


# --- other people's ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "length", "said"),
    [
        (b"{}", 100 * 10**9, "promises a header of 100000000000 bytes and has 26 in all"),
        (b"{}", 2**64 - 1, "promises a header"),
        (b"{}", 0, "InvalidHeader|cannot be read"),
        (b"[" * 18, 18, "cannot be read"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}', None, "cannot be read"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', None, "cannot be read"),
        (b'{"a":{"dtype":"F32","shape":[999999],"data_offsets":[0,4]}}', None, "cannot be read"),
        (b'{"a":{"dtype":"O","shape":[1],"data_offsets":[0,4]}}', None, "cannot be read"),
        (b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', None, "be printed"),
    ],
)
def test_safetensors_that_claim_what_they_do_not_have(tmp_path, header, length, said):
    file = tmp_path / "w.safetensors"
    length = len(header) if length is None else length
    file.write_bytes(length.to_bytes(8, "little") + header.ljust(14) + bytes(4))
    if len(header) < 14:
        file.write_bytes(length.to_bytes(8, "little") + header.ljust(18))
    with pytest.raises(WeightsError, match=said):
        source("safetensors", file).tensors()


def shared(name):
    root = Path(__file__).resolve().parents[3]
    file = Path(os.environ.get("TLX_SHARED_DATA", root.parent / "shared" / "data")) / name
    if not file.exists():
        pytest.skip(f"the data file {name} is not here")
    return file


def test_the_published_cifar_resnet20_in_two_formats():
    """Somebody unpacked the file with PyTorch and saved the tensors with NumPy."""
    arrays = source("npz", shared("cifar_resnet/resnet20-12fca82f.npz"), sha256="1328f4302b7d")
    file = source("torch", shared("cifar_resnet/resnet20-12fca82f.th"), sha256="12fca82f")
    tensors = file.tensors().values
    equal(
        arrays.tensors().values,
        {
            name.removeprefix("module."): tensor
            for name, tensor in tensors.items()
            if not name.endswith("num_batches_tracked")
        },
    )


def test_the_published_squeezenet_with_its_codebooks():
    file = shared("squeezenet10_imagenet.npz")
    found = source("npz", file).tensors().values
    with np.load(file, allow_pickle=False) as archive:
        layers = [name.removesuffix(".code") for name in archive.files if name.endswith(".code")]
        assert len(layers) == 26  # the convolutions of SqueezeNet 1.0
        for layer in layers:
            expected = archive[f"{layer}.codebook"][archive[f"{layer}.code"]]
            np.testing.assert_array_equal(found[f"{layer}.weight"], expected)
        assert len(found) == len(archive.files) - len(layers)
    assert found["conv1.weight"].shape == (96, 3, 7, 7)
    assert jnp.asarray(found["conv1.weight"]).dtype == jnp.float32
