"""PyTorch files are read as PyTorch reads them, to the bit, in both of its formats."""

import argparse
import collections
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tlx_weights.torch import Torch

from tlx import registry
from tlx.errors import WeightsError
from tlx.protocols import KnowsClasses, KnowsInput, WeightSource, Writes

torch = pytest.importorskip("torch")

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


@pytest.fixture(params=["zip", "legacy"])
def saved(request, tmp_path):
    """A file of `value` in one of the two formats, as a source."""

    def save(value, key="", **options):
        path = tmp_path / "net.pth"
        torch.save(value, path, _use_new_zipfile_serialization=request.param == "zip", **options)
        return Torch(str(path), key=key)

    return save


def bits(tensor):
    """Shape, type and bytes, of an array or a tensor."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().contiguous()
        name = str(tensor.dtype).removeprefix("torch.")
        data = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else torch.zeros(0)
        return tuple(tensor.shape), name, data.numpy().tobytes()
    return tensor.shape, tensor.dtype.name, tensor.tobytes()


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert bits(found[name]) == bits(tensor), name


def random(dtype, *shape):
    width = torch.zeros((), dtype=dtype).element_size()
    data = torch.randint(0, 256, (*shape, width), dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if dtype != torch.bool else data[..., 0] > 127


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_to_the_bit(saved, dtype):
    """NaNs with payload, subnormals and negative zero are among random bits."""
    state = {"a": random(dtype, 3, 4), "scalar": random(dtype), "none": random(dtype, 0, 3)}
    same(saved(state).tensors().values, state)


def test_every_way_to_lie_in_memory(saved):
    base = torch.arange(120.0).reshape(2, 3, 4, 5)
    state = collections.OrderedDict(
        contiguous=base,
        transposed=base.permute(3, 1, 0, 2),
        channels_last=base.contiguous(memory_format=torch.channels_last),
        sliced=base[:, 1:, ::2, 3],
        tail=base.flatten()[100:],
        tied=base,
        expanded=torch.arange(3.0)[:, None].expand(3, 4),
        windows=torch.arange(9.0).unfold(0, 4, 1),
        one=base[0, 0, 0, 0],
        empty=torch.zeros(0),
    )
    found = saved(state).tensors().values
    same(found, state)
    assert np.shares_memory(found["contiguous"], found["tied"])  # a storage is read once
    assert not found["sliced"].flags.writeable


def test_parameters_and_modules_and_attributes(saved):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2, bias=False)
    )
    same(saved(net.state_dict()).tensors().values, net.state_dict())
    parameters = dict(net.named_parameters())
    parameters["0.weight"].note = "kept beside a parameter"
    parameters["plain"] = torch.ones(2)
    parameters["plain"].note = "kept beside a tensor"
    same(saved(parameters).tensors().values, parameters)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle(saved, protocol):
    state = {f"layer{i}.weight": torch.randn(2, 2) for i in range(300)}
    extra = {"state_dict": state, "set": {1, 2}, "frozen": frozenset({3}), "bytes": b"x" * 300}
    extra["large"], extra["long"] = 2**70, "é" * 300
    same(saved(extra, pickle_protocol=protocol).tensors().values, state)


def test_a_large_number_and_a_scalar_beside_the_weights(saved):
    state = {"w": torch.ones(2), "steps": 5, "rate": 0.1, "name": "x", "nothing": None}
    same(saved(state).tensors().values, {"w": torch.ones(2)})


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "module", "ema"])
def test_the_network_of_a_training_checkpoint_is_found(saved, key):
    """Optimizer, arguments, counters and numbers of NumPy beside it are passed over."""
    net = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [3, 4])
    checkpoint = {
        "epoch": 3,
        "best_prec1": torch.tensor(91.78),
        "accuracy": np.float64(0.5),
        "history": np.arange(3),
        key: net.state_dict(),
        "optimizer": adam.state_dict(),
        "scheduler": schedule.state_dict(),
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("out"), devices=[torch.device("cpu")]),
        "scaler": {"scale": 65536.0},
        "counts": collections.defaultdict(list, a=[1]),
        "rng": torch.get_rng_state(),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
    }
    same(saved(checkpoint).tensors().values, net.state_dict())


def test_several_candidates_are_listed_and_a_key_chooses(saved):
    teacher, student = ({"backbone.w": torch.full((2,), x)} for x in (1.0, 2.0))
    both = {"teacher": teacher, "student": student, "loss": {"center": torch.ones(1)}}
    message = r"tensors at 2 places: 'teacher', 'student'. .* like key = \"teacher\"\."
    with pytest.raises(WeightsError, match=message):
        saved(both).tensors()
    same(saved(both, key="student").tensors().values, student)
    same(saved(both, key="loss").tensors().values, both["loss"])
    same(saved({"run": {"model": both}}, key="run.model.teacher").tensors().values, teacher)
    same(saved({"run": {"model": teacher}}).tensors().values, teacher)
    with pytest.raises(WeightsError, match=r"key = 'techer'.*at 'teacher', .*Did you mean 'teac"):
        saved(both, key="techer").tensors()
    with pytest.raises(WeightsError, match=r"at 2 places: '\.', 'extra'"):
        saved({"w": torch.ones(1), "extra": teacher}).tensors()
    same(
        saved({"w": torch.ones(1), "extra": teacher}, key=".").tensors().values,
        {"w": torch.ones(1)},
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(2), "one tensor without a name"),
        ([torch.ones(2)], "no tensors by name"),
        ({}, "no tensors by name"),
        ({"epoch": 3}, "no tensors by name"),
        ({0: torch.ones(2)}, "no tensors by name"),
        ({"a": {(1, 2): 3}, "w": torch.ones(1)}, "a key that is a tuple"),
        ({"a": torch.ones(2, 2).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
        ({"a": torch.ones(2, dtype=torch.complex64).conj()}, "resolve_conj"),
        ({"a": torch.zeros(1).expand(1_000_000)}, r"larger than the file.*\.contiguous\(\)"),
        ({"a\x1b[31m": torch.ones(1)}, r"cannot be printed: 'a\\x1b"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear.*executed.*state_dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(saved, value, said):
    with pytest.raises(WeightsError, match=said):
        saved(value).tensors()


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_are_refused(saved):
    source = saved({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)})
    with pytest.raises(WeightsError, match=r"QUInt8Storage|_rebuild_qtensor"):
        source.tensors()


@pytest.mark.filterwarnings("ignore")
def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "pickle")
    with pytest.raises(WeightsError, match="oldest format"):
        Torch(str(path)).tensors()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(WeightsError, match="TorchScript"):
        Torch(str(path)).tensors()
    with path.open("wb") as file:
        np.savez(file, a=np.ones(2))
    with pytest.raises(WeightsError, match=r"no PyTorch file: it has no data\.pkl"):
        Torch(str(path)).tensors()
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError, match="a pickle, but none of PyTorch's"):
        Torch(str(path)).tensors()
    path.write_text("hello")
    with pytest.raises(WeightsError, match="damaged or no PyTorch file"):
        Torch(str(path)).tensors()


def test_a_big_endian_file_is_refused(tmp_path):
    path = tmp_path / "big.pth"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    data = bytearray(path.read_bytes())
    at = data.index(pickle.NEWTRUE, data.index(b"little_endian"))
    data[at : at + 1] = pickle.NEWFALSE
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="big-endian"):
        Torch(str(path)).tensors()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/byteorder", "big")
    with pytest.raises(WeightsError, match="big-endian"):
        Torch(str(path)).tensors()


def test_it_is_a_source_that_can_be_written(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    source = registry.build("weights", "torch", {"path": str(tmp_path / "x.pth")})
    assert isinstance(source, WeightSource)
    assert isinstance(source, Writes)
    assert not isinstance(source, KnowsInput | KnowsClasses)
    found = source.tensors()
    assert found.origin == str(tmp_path / "x.pth")
    assert len(found.sha256) == 64
    Torch(str(tmp_path / "x.pth"), sha256=found.sha256[:8]).tensors()
    with pytest.raises(WeightsError, match="not the file that was meant"):
        Torch(str(tmp_path / "x.pth"), sha256="0" * 8).tensors()


def test_pytorch_is_not_imported(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    code = (
        "import sys; from tlx_weights.torch import Torch; "
        f"assert Torch({str(tmp_path / 'x.pth')!r}).tensors().values['a'].tolist() == [1]; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "name", ["resnet20-12fca82f", "resnet32-d509ac18", "resnet44-014dd654", "resnet56-4bfd9763"]
)
def test_the_published_cifar_resnets(name):
    """Files of 2018 in the older format, saved on a GPU, with `best_prec1` beside the network."""
    root = Path(__file__).resolve().parents[3]
    data = Path(os.environ.get("TLX_SHARED_DATA", root.parent / "shared" / "data"))
    file = data / "cifar_resnet" / f"{name}.th"
    if not file.exists():
        pytest.skip(f"{file.name} is not here")
    expected = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    same(Torch(str(file), sha256=name.rpartition("-")[2]).tensors().values, expected)
