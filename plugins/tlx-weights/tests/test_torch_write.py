"""What tlx writes, PyTorch reads: key for key, to the bit, without running code."""

import zipfile

import numpy as np
import pytest
from tlx_weights.safetensors import Safetensors
from tlx_weights.torch import Torch

from tlx.errors import WeightsError

torch = pytest.importorskip("torch")


@pytest.fixture
def state():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Flatten(), torch.nn.Linear(5, 2)
    )
    dtypes = (torch.bfloat16, torch.float16, torch.bool, torch.int8, torch.float64, torch.int32)
    odd = {f"odd.{i}": torch.randint(0, 2, (3, i)).to(dtype) for i, dtype in enumerate(dtypes)}
    odd["nan"] = torch.tensor([0x7FC00001, -1, 1], dtype=torch.int32).view(torch.float32)
    odd["ü"] = torch.tensor(-0.0)
    return {**net.state_dict(), **odd}


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        both = (x.contiguous().reshape(-1).view(torch.uint8) for x in (found[name], tensor))
        assert torch.equal(*both), name


def test_there_and_back_is_equal_to_the_bit(tmp_path, state):
    torch.save(state, tmp_path / "theirs.pth")
    values = Torch(str(tmp_path / "theirs.pth")).tensors().values
    ours = tmp_path / "ours.pth"
    Torch(str(ours)).write(values, {"classes": ["ant", "bee"]})
    for options in ({}, {"mmap": True}, {"map_location": "cpu"}):
        same(torch.load(ours, weights_only=True, **options), state)
    assert type(torch.load(ours, weights_only=True)).__name__ == "OrderedDict"
    again = Torch(str(ours)).tensors().values
    assert {name: a.tobytes() for name, a in again.items()} == {
        name: a.tobytes() for name, a in values.items()
    }


def test_types_that_have_no_storage_of_their_own(tmp_path):
    names = "uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
    state = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in names.split()}
    torch.save(state, tmp_path / "theirs.pth")
    Torch(str(tmp_path / "ours.pth")).write(
        Torch(str(tmp_path / "theirs.pth")).tensors().values, {}
    )
    same(torch.load(tmp_path / "ours.pth", weights_only=True), state)


def test_the_network_loads_it_strictly_and_computes_the_same(tmp_path):
    net, other = (torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()) for _ in range(2))
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    Torch(str(tmp_path / "x.pth")).write(arrays, {})
    other.load_state_dict(torch.load(tmp_path / "x.pth", weights_only=True), strict=True)
    x = torch.randn(5, 4)
    assert torch.equal(net(x), other(x))


def test_order_in_memory_and_order_of_bytes(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors = {
        "f": np.asfortranarray(array),
        "t": array.T,
        "big": array.astype(">f4"),
        "s": array[1],
    }
    Torch(str(tmp_path / "x.pth")).write(tensors, {})
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].numpy(), tensor)


def test_the_numbers_lie_where_pytorch_puts_them(tmp_path, state):
    path = tmp_path / "x.pth"
    Torch(str(path)).write({name: np.ones(3, np.float32) for name in state}, {})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            at = info.header_offset
            lengths = data[at + 26 : at + 30]
            start = at + 30 + sum(int.from_bytes(x, "little") for x in (lengths[:2], lengths[2:]))
            assert start % 64 == 0, info.filename
            assert info.compress_type == zipfile.ZIP_STORED
        assert archive.read("archive/byteorder") == b"little"


def test_the_same_numbers_make_the_same_file(tmp_path):
    for name in "ab":
        Torch(str(tmp_path / name)).write({"w": np.ones(3, np.float32)}, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("source", [Torch, Safetensors])
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, source):
    path = tmp_path / "x"
    source(str(path)).write({"w": np.ones(3, np.float32)}, {})
    before = path.read_bytes()
    with pytest.raises(WeightsError):
        source(str(path)).write({"w": np.array(["text"]), "v": np.ones(2)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    with pytest.raises(WeightsError, match="folder does not exist"):
        source(str(tmp_path / "no" / "x")).write({"w": np.ones(3, np.float32)}, {})
    with pytest.raises(WeightsError, match="is a folder"):
        source(str(tmp_path)).write({"w": np.ones(3, np.float32)}, {})


@pytest.mark.parametrize("source", [Torch, Safetensors])
def test_types_that_pytorch_has_not_are_refused(tmp_path, source):
    with pytest.raises(WeightsError, match=r"'name' has the type <U4|x cannot be written.*str128"):
        source(str(tmp_path / "x")).write({"name": np.array(["text"])}, {})


def test_safetensors_for_pytorch(tmp_path, state):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    save_file(state, tmp_path / "theirs.safetensors")
    values = Safetensors(str(tmp_path / "theirs.safetensors")).tensors().values
    values["t"] = values["0.weight"].T
    about = {"classes": ["ant", "bee"], "backbone": "resnet18", "format": "np"}
    ours = tmp_path / "ours.safetensors"
    Safetensors(str(ours)).write(values, about)
    found = load_file(ours)
    np.testing.assert_array_equal(found.pop("t").numpy(), state["0.weight"].numpy().T)
    assert found.keys() == state.keys()
    same({name: found[name] for name in state}, state)
    with safe_open(ours, "np") as file:
        assert file.metadata() == {
            "format": "pt", "classes": '["ant", "bee"]', "backbone": "resnet18",
        }  # fmt: skip
