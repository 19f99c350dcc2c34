"""What is in a file, and which of the installed backbones it fits."""

import json

import numpy as np
import pytest
import torch

from tlx import cli
from tlx.errors import TlxError
from tlx.weights import inspection


@pytest.fixture(scope="module")
def file(tmp_path_factory, torch_resnet20):
    """A checkpoint of a CIFAR ResNet-20 whose trainer was a parallel one."""
    named = torch_resnet20("linear").state_dict().items()
    path = tmp_path_factory.mktemp("file") / "net.th"
    torch.save({f"module.{name}": tensor for name, tensor in named}, path)
    return path


@pytest.fixture(scope="module")
def found(file):
    return inspection.inspect(str(file))


def test_what_a_file_holds_and_which_networks_it_fits(file, found):
    assert found["name"] == f"torch:{file}"
    assert len(found["sha256"]) == 64
    assert found["input"] is None
    assert found["classes"] is None
    # 19 convolutions, 5 numbers for each of the norms (one a count), the classifier.
    assert len(found["tensors"]) == 19 + 19 * 5 + 2
    assert found["tensors"][0] == {
        "name": "module.conv1.weight", "shape": (16, 3, 3, 3), "dtype": "float32",
    }  # fmt: skip
    shown = [(fit["backbone"], fit["filled"], fit["leaves"]) for fit in found["fits"][:2]]
    assert shown == [("resnet20", 95, 95), ("resnet32", 95, 155)]
    assert (found["fits"][0]["dialect"], found["fits"][0]["prefix"]) == ("akamaster", "module.")
    assert found["fits"][0]["unused"] == 0


def test_on_the_command_line(found, capsys, monkeypatch):
    monkeypatch.setattr(inspection, "inspect", lambda _, **__: found)
    assert cli.main(["weights", "inspect", "net.th"]) == 0
    out = capsys.readouterr().out
    assert "fits     resnet20 under `module.`: all 95 backbone leaves (names of akamaster)\n" in out
    assert (
        "fits     resnet32 under `module.`: 95 of 155 backbone leaves (names of akamaster)\n" in out
    )
    assert "module.layer1.0.conv1.weight " in out
    assert cli.main(["weights", "inspect", "net.th", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == 269722 + 2 * 688 + 19  # and the statistics of 688 channels
    assert told["sha256"] == found["sha256"]


def test_a_deeper_file_leaves_tensors_over(file, tmp_path):
    tensors = torch.load(file)
    extra = {
        name.replace("layer3.2", f"layer3.{b}"): tensor
        for name, tensor in tensors.items() if "layer3.2" in name
        for b in (3, 4)
    }  # fmt: skip
    torch.save({**tensors, **extra}, tmp_path / "deep.th")
    fits = inspection.inspect(str(tmp_path / "deep.th"))["fits"]
    # ResNet-32 has these blocks and four more; ResNet-20 has no place for their 20 tensors.
    by_name = {fit["backbone"]: fit for fit in fits}
    assert by_name["resnet20"]["unused"] == 20
    assert by_name["resnet32"]["unused"] == 0
    assert by_name["resnet32"]["filled"] == 115


def test_two_networks_in_a_file_are_both_told(file, tmp_path, capsys):
    tensors = torch.load(file).items()
    both = {
        f"{encoder}{name.removeprefix('module.')}": tensor * scale
        for encoder, scale in (("encoder_q.", 1), ("encoder_k.", 2))
        for name, tensor in tensors
    }
    torch.save({"state_dict": {**both, "queue": torch.zeros(9, 2)}}, tmp_path / "moco.pth")
    found = inspection.inspect(str(tmp_path / "moco.pth"))["fits"][:2]
    assert [(fit["backbone"], fit["prefix"], fit["unused"]) for fit in found] == [
        ("resnet20", "encoder_q.", 0), ("resnet20", "encoder_k.", 0),
    ]  # fmt: skip


def test_a_file_that_fits_nothing(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", weight=np.zeros((3, 4)), bias=np.zeros(4))
    assert cli.main(["weights", "inspect", str(tmp_path / "x.npz")]) == 0
    assert "fits     no installed backbone" in capsys.readouterr().out


def test_the_weights_that_ship_are_leaf_paths_with_preprocessing():
    found = inspection.inspect("resnet20-cifar10")
    assert found["fits"][0] == {
        "backbone": "resnet20", "dialect": "", "prefix": "", "filled": 95, "leaves": 95,
        "unused": 0,
    }  # fmt: skip
    assert found["input"]["size"] == (32, 32)
    assert len(found["classes"]) == 10


@pytest.mark.parametrize("name", ["absent.npz", "nothing-of-this-name"])
def test_what_is_not_there_is_a_sentence(name):
    with pytest.raises(TlxError, match=r"There is no file|No source of weights"):
        inspection.inspect(name)
