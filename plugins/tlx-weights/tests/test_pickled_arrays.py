"""NumPy arrays in a pickle: read as they are, and nothing in it is run."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tlx import registry
from tlx.errors import WeightsError

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "half": np.float16([1, 2]),
    "big": np.arange(3, dtype=">i4"),
    "flag": np.array([True, False]),
    "scalar": np.array(2.0),
    "empty": np.zeros((0, 3)),
}
TREE = {"state_dict": ARRAYS, "best": np.float32(3), "epoch": 7}


def read(path):
    return registry.build("weights", "torch", {"path": str(path)}).tensors().values


def same(found, wanted=ARRAYS):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_from_every_protocol(tmp_path, protocol):
    for new in (True, False):
        options = {"_use_new_zipfile_serialization": new, "pickle_protocol": protocol}
        torch.save(TREE, tmp_path / "x.pth", **options)
        same(read(tmp_path / "x.pth"))
    (tmp_path / "x.pth").write_bytes(pickle.dumps(TREE, protocol))
    same(read(tmp_path / "x.pth"))


def test_arrays_beside_tensors_and_of_jax(tmp_path):
    torch.save({"a": torch.ones(2), "b": np.ones(3)}, tmp_path / "x.pth")
    same(read(tmp_path / "x.pth"), {"a": np.ones(2, np.float32), "b": np.ones(3)})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"w": jnp.arange(3.0)}))
    same(read(tmp_path / "x.pkl"), {"w": np.arange(3, dtype=np.float32)})


@pytest.mark.parametrize(
    "array",
    [np.array([{}], object), np.array(["text"]), np.zeros(2, "i4,f4"), np.zeros(1, "M8[s]")],
)
def test_what_is_no_plain_number_is_refused(tmp_path, array):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": array}, 4))
    with pytest.raises(WeightsError, match=r"no plain number|is damaged"):
        read(tmp_path / "x.pth")


def test_a_size_that_is_not_there(tmp_path):
    data = pickle.dumps({"a": np.zeros(200, np.uint8)}, 4)
    (tmp_path / "x.pth").write_bytes(data.replace(b"K\xc8\x85", b"K\xc9\x85"))
    with pytest.raises(WeightsError, match=r"says that it has the shape \(201,\) of uint8"):
        read(tmp_path / "x.pth")


def test_bytes_that_are_shared_do_not_become_a_memory_full(tmp_path):
    """A thousand arrays of the same megabyte, written once."""

    class Shared:
        def __init__(self, data):
            self.data = data

        def __reduce__(self):
            state = (1, (len(self.data),), np.dtype("u1"), False, self.data)
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    data = bytes(2**20)
    (tmp_path / "x.pth").write_bytes(pickle.dumps({f"a{n}": Shared(data) for n in range(1000)}, 2))
    with pytest.raises(WeightsError, match="its arrays share their bytes"):
        read(tmp_path / "x.pth")
    one = pickle.dumps({"a": (array := np.zeros(2**20, np.uint8)), "b": array}, 4)
    (tmp_path / "x.pth").write_bytes(one)
    same(read(tmp_path / "x.pth"), {"a": array, "b": array})
