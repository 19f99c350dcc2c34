"""NumPy archives that mean harm, or that are odd: no claim is believed, nothing is unpickled."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from tlx_weights.npz import Npz

from tlx.errors import WeightsError


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def member(header, data=b"", version=(1, 0), magic=b"\x93NUMPY"):
    text = header.encode() if isinstance(header, str) else header
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return magic + bytes(version) + size + text + data


def archive(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def read(path):
    """The arrays of a file; refusing it must not take more than 30 MB."""
    tracemalloc.start()
    try:
        return dict(Npz(str(path)).tensors().values)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30e6


ONES = npy(np.ones(3))
PLAIN = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    "data",
    [
        member(PLAIN.format("<f4", "(100000000000000,)")),
        member(PLAIN.format("<f4", "(4,)"), bytes(15)),
        member(PLAIN.format("<f4", "(4,)"), bytes(17)),
        member(PLAIN.format("<f4", "(-1, -4)"), bytes(16)),
        member(PLAIN.format("<f4", "(0, 9223372036854775808)")),
        member(PLAIN.format("<f4", f"({'1,' * 65})"), bytes(4)),
        member(PLAIN.format("<f4", "(1e400,)"), bytes(4)),
        member(PLAIN.format("<f4", "(True,)"), bytes(5)),
        member(PLAIN.format("<f4", "4"), bytes(16)),
        member(PLAIN.format("<U0", "(9999999999,)")),
        member(PLAIN.format("<V0", "(9999999999,)")),
        member(PLAIN.format("nonsense", "(4,)"), bytes(16)),
        member(PLAIN.format("<f4", "__import__('os').system('true')"), bytes(16)),
        member("(" * 5000),
        member("-" * 9000 + "1"),
        member("[" * 9000),
        member("1" * 9000),
        member(PLAIN.format("<f4", "(4,)") + " " * 20_000, bytes(16)),
        member(PLAIN.format("<f4", "(4,)"), bytes(16), version=(3, 0)),
        member(PLAIN.format("<f4", "(4,)"), bytes(16), version=(9, 9)),
        member(PLAIN.format("<f4", "(4,)"), bytes(16), magic=b"\x94NUMPY"),
        member("", version=(2, 0)),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        b"\x93NUMPY\x01",
        b"",
        b"hello",
        npy(np.ones(2, [("a", "f4"), ("b", "f8")])),
        member("{'descr': ('<f4', (1000, 1000, 1000)), 'fortran_order': False, 'shape': (1,)}"),
        npy(np.array([{}, object], dtype=object)),
        member(PLAIN.format("|O", "(1,)"), b"cos\nsystem\n(S'true'\ntR."),
    ],
    ids=range(30),
)  # fmt: skip
def test_a_member_that_is_no_plain_array(tmp_path, data):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "w.npz", compression, good=ONES, bad=data)
        with pytest.raises(WeightsError, match=r"w\.npz .*'bad\.npy'|w\.npz cannot be read"):
            read(path)


def test_pickled_objects_are_said_to_be_what_they_are(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{}, object], dtype=object))
    with pytest.raises(WeightsError, match=r"more than plain arrays.*Nothing was executed"):
        read(tmp_path / "w.npz")


def test_other_orders_of_bytes_and_axes(tmp_path):
    array = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    big, fortran = array.astype(">f4"), np.asfortranarray(array)
    np.savez_compressed(tmp_path / "w.npz", big=big, fortran=fortran, t=array.T)
    found = read(tmp_path / "w.npz")
    assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}
    for name, expected in {"big": array, "fortran": array, "t": array.T}.items():
        np.testing.assert_array_equal(found[name], expected)


# --- the archive ---------------------------------------------------------------------------------


def claiming(path, old, new):
    """The same file with a size of a member replaced wherever it is written."""
    data = path.read_bytes()
    assert data.count(struct.pack("<I", old)) >= 2
    path.write_bytes(data.replace(struct.pack("<I", old), struct.pack("<I", new)))
    return path


def test_a_member_that_claims_to_become_larger_than_it_can(tmp_path):
    path = archive(tmp_path / "w.npz", zipfile.ZIP_DEFLATED, a=npy(np.zeros(10_000)))
    with pytest.raises(WeightsError, match="claims to become 4000000000 bytes"):
        read(claiming(path, 80_128, 4_000_000_000))


def test_a_member_that_becomes_larger_than_it_claims(tmp_path):
    """A bomb that says it is small is unpacked no further than it says."""
    path = archive(tmp_path / "w.npz", zipfile.ZIP_DEFLATED, a=npy(np.zeros(10_000_000)))
    with pytest.raises(WeightsError, match=r"w\.npz"):
        read(claiming(path, 80_000_128, 800_128))


def test_a_member_with_less_than_it_claims(tmp_path):
    path = archive(tmp_path / "w.npz", zipfile.ZIP_DEFLATED, a=npy(np.zeros(1000)))
    with pytest.raises(WeightsError, match=r"w\.npz"):
        read(claiming(path, 8128, 8136))


def test_members_that_share_their_bytes(tmp_path):
    """Many entries of the index that point at one member: each is small, their sum is not."""
    path = archive(tmp_path / "w.npz", zipfile.ZIP_DEFLATED, **{"a0000": npy(np.zeros(50_000))})
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry, copies = data[at:end], 4000
    index = b"".join(entry.replace(b"a0000", b"a%04d" % i) for i in range(copies))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(index), at, 0)
    path.write_bytes(data[:at] + index + tail)
    with pytest.raises(WeightsError, match=r"its members claim|File name in directory"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "\\x", "..\\x", "C:\\x", "C:x", "a\\..\\x"]
)
def test_a_path_that_leads_out_of_the_archive(tmp_path, name):
    path = archive(tmp_path / "w.npz", **{name: ONES})
    with pytest.raises(WeightsError, match=r"leads out of the archive\. Nothing was unpacked"):
        read(path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        file.writestr("a.npy", ONES)
        file.writestr("a.npy", npy(np.zeros(3)))
    with pytest.raises(WeightsError, match=r"holds 'a\.npy' twice"):
        read(tmp_path / "w.npz")


def test_what_else_a_zip_file_can_be(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("photo.jpg", b"x")
    with pytest.raises(WeightsError, match=r"'photo\.jpg', which is no array"):
        read(path)
    archive(path, zipfile.ZIP_LZMA, a=ONES)
    with pytest.raises(WeightsError, match=r"compressed by method 14; 0 \(stored\)"):
        read(path)
    archive(path, a=ONES)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"is encrypted \(its member 'a\.npy'\)"):
        read(path)
    archive(path, a=ONES)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") - 1] ^= 1
    assert zlib.crc32(bytes(data)) != zlib.crc32(path.read_bytes())
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="CRC"):
        read(path)


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path):
    path = archive(tmp_path / "w.npz", a=ONES, b=ONES)
    whole, noticed = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            found = Npz(str(path)).tensors().values
        except WeightsError:
            noticed += 1
        else:
            assert all(np.array_equal(array, np.ones(3)) for array in found.values())
    assert noticed > len(whole) / 2


# --- codebooks -----------------------------------------------------------------------------------


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_codebook_makes_a_weight(tmp_path):
    code = np.array([[0, 2], [1, 1]], np.uint8)
    book = np.array([0.5, -1.0, 7.0], np.float32)
    arrays = {"a.code": code, "a.codebook": book, "b.code": code, "c.codebook": book, "code": code}
    found = read(save(tmp_path / "w.npz", **arrays))
    np.testing.assert_array_equal(found["a.weight"], [[0.5, 7.0], [-1.0, -1.0]])
    assert found["a.weight"].dtype == np.float32
    assert set(found) == {"a.weight", "b.code", "c.codebook", "code"}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a.code": np.array([3], np.uint8), "a.codebook": np.ones(3)}, "does not list"),
        ({"a.code": np.array([0]), "a.codebook": np.ones(3)}, "does not list"),
        ({"a.code": np.array([0], np.uint8), "a.codebook": np.ones((3, 3))}, "does not list"),
        (
            {
                "a.code": np.array([0], np.uint8),
                "a.codebook": np.ones(3),
                "a.weight": np.ones(1),
            },
            r"'a\.weight' twice",
        ),
    ],
)
def test_codebooks_that_do_not_fit(tmp_path, arrays, said):
    with pytest.raises(WeightsError, match=said):
        read(save(tmp_path / "w.npz", **arrays))
