"""Data sets in npz files that mean harm: no claim is believed, nothing is unpickled."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from tlx_data.npz import Npz

from tlx.errors import DataError


def npy(array, **how):
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def claiming(shape, kind="|u1", data=b""):
    """An array whose header says more than there is."""
    text = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


LABELS = npy(np.zeros(3, np.int64))
PICTURES = npy(np.zeros((3, 4, 4, 3), np.uint8))


def archive(path, *members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def refused(path, said):
    """Whatever is refused takes no more memory than 30 MB."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            _ = Npz(str(path)).info
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


class Armed:
    """Unpickling it leaves a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_not_executed(tmp_path):
    armed = np.asarray([Armed(tmp_path / "ran")] * 3, object)
    members = ("x_train.npy", PICTURES), ("y_train.npy", npy(armed, allow_pickle=True))
    path = archive(tmp_path / "data.npz", *members)
    refused(path, r"y_train\.npy' is pickled objects\. Nothing was executed")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(armed))
    assert (tmp_path / "ran").exists(), "it would have"


def test_a_header_that_claims_more_than_there_is(tmp_path):
    for shape in ((10**9, 32, 32, 3), (10**15,), (2**63, 2)):
        members = ("x_train.npy", claiming(shape)), ("y_train.npy", LABELS)
        refused(archive(tmp_path / "data.npz", *members), "is damaged|cannot be read")


def test_a_member_that_becomes_larger_than_it_can(tmp_path):
    path = archive(
        tmp_path / "data.npz",
        ("x_train.npy", claiming((10**8,), data=bytes(10**8))), ("y_train.npy", LABELS),
        compression=zipfile.ZIP_DEFLATED,
    )  # fmt: skip
    packed = bytearray(path.read_bytes())
    assert len(packed) < 200_000
    at = packed.index(b"PK\x01\x02") + 24  # what the directory says that it becomes
    packed[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(packed)
    refused(path, "made to fill the memory")


@pytest.mark.parametrize("name", ["../x_train.npy", "/x_train.npy", "a/../../x.npy", "C:\\x.npy"])
def test_a_member_with_a_path_that_leads_out(tmp_path, name):
    members = (name, PICTURES), ("y_train.npy", LABELS)
    refused(archive(tmp_path / "data.npz", *members), "leads out of the archive")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path):
    members = ("x_train.npy", PICTURES), ("y_train.npy", LABELS), ("y_train.npy", LABELS)
    refused(archive(tmp_path / "data.npz", *members), "twice")


def test_what_is_no_array_and_what_is_no_text(tmp_path):
    members = ("x_train.npy", PICTURES), ("y_train.npy", LABELS)
    refused(archive(tmp_path / "a.npz", *members, ("note.txt", b"hello")), "which is no array")
    names = np.asarray(["a", "b", "c"])
    names.view(np.uint32)[1] = 0x7FFFFFFF
    named = archive(tmp_path / "b.npz", *members, ("class_names.npy", npy(names)))
    refused(named, "letters that there are not")
