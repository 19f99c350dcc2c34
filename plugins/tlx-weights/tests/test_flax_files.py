"""MessagePack files as Flax writes them, and such as nobody should believe."""

import flax.serialization
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

from tlx import registry
from tlx.errors import WeightsError

TREE = {
    "params": {
        "Dense_0": {
            "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
            "bias": jnp.ones(3, jnp.bfloat16),
        }
    },
    "batch_stats": {"bn": {"mean": np.zeros((), np.float16)}},
    "blocks": [np.ones(1, np.int32), {"value": np.zeros((2, 0))}],
    "step": 3,
    "said": "hello",
    "nothing": None,
    "number": 1j,
}


def source(path, **options):
    return registry.build("weights", "flax", {"path": str(path), **options})


def read(tmp_path, data):
    (tmp_path / "x.msgpack").write_bytes(data)
    return source(tmp_path / "x.msgpack").tensors().values


@pytest.mark.parametrize("chunk", [2**30, 8])
def test_a_tree_becomes_names(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", chunk)
    found = read(tmp_path, flax.serialization.to_bytes(TREE))
    dense = TREE["params"]["Dense_0"]
    assert found.keys() == {
        "params/Dense_0/kernel", "params/Dense_0/bias", "batch_stats/bn/mean", "blocks/0",
        "blocks/1",
    }  # fmt: skip
    np.testing.assert_array_equal(found["params/Dense_0/kernel"], dense["kernel"])
    assert found["params/Dense_0/bias"].dtype == jnp.bfloat16
    assert (found["batch_stats/bn/mean"].shape, found["blocks/1"].shape) == ((), (2, 0))


def array(shape=(2,), kind="float32", data=bytes(8), code=1):
    return msgpack.packb({"a": msgpack.ExtType(code, msgpack.packb((shape, kind, data)))})


def deep(levels):
    return b"\x81\xa1a" * levels + b"\x01"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (array(data=bytes(7)), r"says that it has the shape \(2,\) of float32, and has 7 bytes"),
        (array(shape=(2**62, 2**62, 0, 9), data=b"x"), "says that it has the shape"),
        (array(shape=(-2,)), "without meaning"),
        (array(shape=(2.0,)), "without meaning"),
        (array(shape=[1] * 65, data=bytes(4)), "without meaning"),
        (array(kind="object"), "of the type 'object'"),
        (array(kind="V8"), "of the type 'V8'"),
        (array(code=9), "an extension 9"),
        (msgpack.packb({"a": msgpack.ExtType(1, b"\x01")}), "no shape, type and bytes"),
        (msgpack.packb([1, 2]), "no tree of names"),
        (msgpack.packb({"a": 1}), "holds no arrays"),
        (
            msgpack.packb({"a\x1b": msgpack.ExtType(1, msgpack.packb(((), "int8", b"1")))}),
            "printed",
        ),
        (msgpack.packb({"a": {"__msgpack_chunked_array__": True, "shape": {}}}), "not there"),
        (deep(100), "more than 64 levels"),
        (deep(5000), "cannot be read"),
        (b"\xdd\xff\xff\xff\xff", "cannot be read"),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "cannot be read"),
        (b"\x81\xa1a", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_what_is_not_believed(tmp_path, data, said):
    with pytest.raises(WeightsError, match=said):
        read(tmp_path, data)


def test_the_file_that_was_meant(tmp_path):
    read(tmp_path, array())
    digest = source(tmp_path / "x.msgpack").tensors().sha256
    assert source(tmp_path / "x.msgpack", sha256=digest[:8]).tensors().sha256 == digest
    with pytest.raises(WeightsError, match="is not the file that was meant"):
        source(tmp_path / "x.msgpack", sha256="00").tensors()
