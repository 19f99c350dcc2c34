"""Mutated weights: many by hand (`-m fuzz`), some of the same with every run.

Whatever is done to a file, reading it gives arrays or a sentence, in little time and memory."""

import argparse
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from tlx_weights.equinox_leaves import EquinoxLeaves
from tlx_weights.flax_msgpack import FlaxMsgpack
from tlx_weights.torch import Torch

from tlx.testing.fuzzing import survived

PROGRAM = Path(__file__).with_name("fuzz_weights.py")


@pytest.fixture
def fuzz(tmp_path):
    torch = pytest.importorskip("torch")
    w = torch.arange(12.0).reshape(3, 4)
    state = {"w": w, "t": w.t(), "half": w[1].half(), "n": torch.tensor(3), "b": w[0] > 1}
    net = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    adam.step()
    checkpoint = {
        "model": torch.nn.Sequential(net, torch.nn.BatchNorm1d(2)).state_dict(),
        "optimizer": adam.state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "loss": {"center": torch.ones(2, dtype=torch.uint16)},
        "accuracy": np.float64(3.0),
    }
    for name, value in (("state", state), ("checkpoint", checkpoint)):
        for new in (True, False):
            path = tmp_path / f"good-{name}-{new}.pth"
            torch.save(value, path, _use_new_zipfile_serialization=new)
    torch.save(state, tmp_path / "good-protocol-4.pth", pickle_protocol=4)
    Torch(str(tmp_path / "good-own.pth")).write({"w": w.numpy(), "v": np.ones(2, np.uint32)}, {})
    code = {"a.code": np.array([[0, 1]], np.uint8), "a.codebook": np.ones(2, np.float32)}
    np.savez(tmp_path / "good-code.npz", **code, b=w.numpy(), c=np.asfortranarray(w.numpy()))
    np.savez_compressed(tmp_path / "good-packed.npz", d=w.numpy().astype(">f8"), e=np.float16(1))

    torch.save({"w": w.numpy(), "a": np.ones(3)}, tmp_path / "good-arrays.pth")
    two = {f"{place}.{name}": w + at for at, place in enumerate("qk") for name in ("w", "a")}
    torch.save({"state_dict": {"module.w": w, "module.a": w}}, tmp_path / "good-prefix.pth")
    torch.save(two, tmp_path / "good-two.pth")

    save_file({"a": w.numpy(), "b": np.float16([1, 2])}, tmp_path / "good-plain.safetensors")
    small = w.numpy().astype(ml_dtypes.float8_e4m3fn)
    save_file({"model.w": small, "model.a": small}, tmp_path / "good-float8.safetensors")
    places = {"weight_map": {"a": "good-plain.safetensors", "b": "good-plain.safetensors"}}
    (tmp_path / "good.safetensors.index.json").write_text(json.dumps(places))
    FlaxMsgpack.sample(tmp_path / "made")
    EquinoxLeaves.sample(tmp_path / "made")
    for path in (tmp_path / "made").iterdir():
        path.rename(tmp_path / f"good-{path.name}")
    return lambda count, seed: survived(PROGRAM, tmp_path, count, seed)


def test_mutated_files(fuzz):
    fuzz(1500, seed=0)


@pytest.mark.fuzz
def test_many_mutated_files(fuzz):
    fuzz(40_000, seed=1)
