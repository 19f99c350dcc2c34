"""What is in a file says which source reads it, whatever it is called."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from tlx.errors import WeightsError
from tlx.run_file.weight_reference import reference

ARRAY = io.BytesIO()
np.save(ARRAY, np.ones(2))
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()


def archive(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name in names:
            opened.writestr(name, b"")
    return stream.getvalue()


FILES = {
    "torch": (archive("net/data.pkl", "net/data/0"), pickle.dumps({}, 2), pickle.dumps({}, 4)),
    "npz": (archive("a.npy", "b.npy"),),
    "keras": (archive("metadata.json", "config.json", "model.weights.h5"), b"\x89HDF\r\n\x1a\n0"),
    "safetensors": (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),),
    "flax": (b"\x81\xa1a\x01", b"\xde\x00\x10\xa6params\x01", b"\xdf\x00\x00\x00\x10\xd9\x01a\x01"),
    "equinox": (ARRAY.getvalue(), b'{"width": 3}\n' + ARRAY.getvalue()),
}
CASES = [(scheme, data) for scheme, several in FILES.items() for data in several]


@pytest.mark.parametrize(("scheme", "data"), CASES)
@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pt", "", ".weights"])
def test_the_content_goes_before_the_ending(tmp_path, scheme, data, ending):
    (tmp_path / f"x{ending}").write_bytes(data)
    assert reference(f"{tmp_path}/x{ending}") == f"{scheme}:{tmp_path}/x{ending}"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("last.ckpt", "torch"), ("flax_model.msgpack", "flax"), ("m.eqx", "equinox"),
     ("model.safetensors.index.json", "hf"), ("pytorch_model.bin.index.json", "hf")],
)  # fmt: skip
def test_an_ending_is_enough_where_the_content_says_nothing(tmp_path, name, scheme):
    assert reference(name) == f"{scheme}:{name}"
    (tmp_path / name).write_bytes(b"{")
    assert reference(f"{tmp_path}/{name}") == f"{scheme}:{tmp_path}/{name}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08", "unpack it first"),
        (b"GGUF\x03", "quantised"),
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "model.safetensors"])
def test_what_is_found_in_the_place_of_weights(tmp_path, data, said, name):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{name} is .*{said}"):
        reference(f"{tmp_path}/{name}")


@pytest.mark.parametrize("data", [b"", b"\x81", b"\xde", b"PK\x03\x04", b"hello", b"{}\n", b"\0\0"])
def test_bytes_that_say_nothing(tmp_path, data):
    (tmp_path / "x.odd").write_bytes(data)
    with pytest.raises(WeightsError, match="neither by its ending nor by its first bytes"):
        reference(f"{tmp_path}/x.odd")
    (tmp_path / "x.npz").write_bytes(data)
    assert reference(f"{tmp_path}/x.npz") == f"npz:{tmp_path}/x.npz"
