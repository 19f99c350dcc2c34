"""A loaded network held against PyTorch's own activations, layer by layer."""

import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from tlx import cli
from tlx.commands.weights import RECORDING
from tlx.errors import WeightsError
from tlx.weights import parity

FILE = "resnet20.pth"


def recorded(network, folder):
    """What the lines in the help of `tlx weights verify` leave, run as they stand there."""
    lines = textwrap.dedent(RECORDING.split("With PyTorch:")[1])
    lines = lines.replace("2, 3, 224, 224", "2, 3, 32, 32").replace('"FILE', f'"{folder}/{FILE}')
    exec(compile(lines, "help", "exec", dont_inherit=True), {"model": network})
    return folder / f"{FILE}.reference.npz"


@pytest.fixture(scope="module")
def made(tmp_path_factory, torch_resnet20):
    """A folder with a file of weights and the reference that PyTorch made of it."""
    folder = tmp_path_factory.mktemp("original")
    network = torch_resnet20("linear")
    torch.save({"state_dict": network.state_dict(), "best": 1.0}, folder / FILE)
    recorded(network, folder)
    return folder


@pytest.fixture
def original(made, tmp_path, monkeypatch, torch_resnet20):
    """The same in a folder of the test's own; the network that it came from."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return torch_resnet20("linear")


@pytest.fixture(scope="module")
def network(made):
    return parity.load(str(made / FILE), "resnet20")


@pytest.fixture
def loaded(original, network):
    return network


def test_every_layer_agrees_with_pytorch(loaded):
    found = parity.verify(loaded, parity.beside(FILE), 1e-4)
    assert found["agree"]
    assert found["first_difference"] is None
    layers = [row["layer"] for row in found["layers"]]
    # 19 convolutions and norms, 9 blocks, 3 stages, the classifier.
    assert len(layers) == 19 * 2 + 9 + 3 + 1
    assert layers[:5] == ["stem/conv1", "stem/bn1", "stage1/block0/conv1", "stage1/block0/bn1",
                          "stage1/block0/conv2"]  # fmt: skip
    assert layers[-2:] == ["stage3", "head"]
    assert max(row["relative"] for row in found["layers"]) < 1e-5
    assert not found["not_compared"]


def test_the_first_difference_is_where_it_was_made(original, tmp_path):
    original.layer2[1].bn1.running_var.mul_(1.5)
    torch.save(original.state_dict(), "other.pth")
    found = parity.verify(parity.load("other.pth", "resnet20"), parity.beside(FILE), 1e-4)
    assert not found["agree"]
    assert found["first_difference"]["layer"] == "stage2/block1/bn1"
    assert found["first_difference"]["name"] == "layer2.1.bn1"
    assert found["first_difference"]["relative"] > 0.05
    index = [row["layer"] for row in found["layers"]].index("stage2/block1/bn1")
    assert all(row["relative"] < 1e-5 for row in found["layers"][:index])


def test_the_command_says_where(original, capsys):
    assert cli.main(["weights", "verify", FILE, "--backbone", "resnet20"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^stage2/block0/conv1 +layer2\.0\.conv1 +\S+ +\S+$", out, re.M)
    assert out.splitlines()[-1].startswith("All 51 layers agree; the largest relative error is ")
    original.bn1.bias.data += 1
    torch.save(original.state_dict(), "other.pth")
    reference = ["--reference", f"{FILE}.reference.npz"]
    assert cli.main(["weights", "verify", "other.pth", "--backbone", "resnet20", *reference]) == 2
    out, err = capsys.readouterr()
    assert "differs" in out
    assert "Layers agree up to stem/conv1" in err
    assert "The first difference is at stem/bn1 (bn1 in the reference)" in err


def test_nothing_to_verify_against_is_said(original, capsys):
    parity.beside(FILE).unlink()
    assert cli.main(["weights", "verify", FILE, "--backbone", "resnet20"]) == 2
    assert "tlx weights verify --help" in capsys.readouterr().err
    there = ["--reference", "absent.npz"]
    assert cli.main(["weights", "verify", FILE, "--backbone", "resnet20", *there]) == 2
    assert "There is no reference absent.npz" in capsys.readouterr().err


def test_only_the_backbone_is_set(original, capsys):
    verify = ["weights", "verify", FILE, "--backbone", "resnet20", "--set"]
    assert cli.main([*verify, "optimizer.clip=1"]) == 2
    assert "only the backbone" in capsys.readouterr().err
    assert cli.main([*verify, "backbone.shortcut=C"]) == 2
    assert "shortcut" in capsys.readouterr().err


def test_what_was_written_is_a_reference_for_another_machine(original, capsys):
    parity.beside(FILE).unlink()
    write = ["weights", "verify", FILE, "--backbone", "resnet20", "--write", "own.npz"]
    assert cli.main(write) == 0
    assert "no proof that it is the original" in capsys.readouterr().out
    found = parity.verify(parity.load(FILE, "resnet20"), Path("own.npz"), 1e-6)
    assert found["agree"]
    assert {"pooled", "stem", "head"} <= {row["layer"] for row in found["layers"]}
    assert cli.main(write) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_backbone_that_does_not_fit_is_refused_unless_it_is_allowed(original):
    with pytest.raises(WeightsError, match="do not fit"):
        parity.load(FILE, "resnet32")
    partial = parity.load(FILE, "resnet32", allow=("*/block3/*", "*/block4/*"))
    found = parity.verify(partial, parity.beside(FILE), 1e-4)
    # Blocks that the file does not have come at the end of a stage.
    assert found["first_difference"]["layer"] == "stage1"


def rewritten(change):
    file = parity.beside(FILE)
    arrays = change({name: array.copy() for name, array in parity.read(file).items()})
    np.savez(file, **arrays)
    return file


def test_the_layout_is_seen_where_it_is_not_said(loaded):
    file = rewritten(lambda a: {k: v for k, v in a.items() if k != "layout"})
    assert parity.verify(loaded, file, 1e-4)["agree"]
    file = rewritten(lambda a: {k: np.moveaxis(v, 1, -1) if v.ndim == 4 and k != "input" else v
                                for k, v in a.items()})  # fmt: skip
    assert parity.verify(loaded, file, 1e-4)["agree"]
    file = rewritten(lambda a: {**a, "input": np.moveaxis(a["input"], -1, 1)})
    assert parity.verify(loaded, file, 1e-4)["agree"]


def test_numbers_that_are_none_and_shapes_that_differ_are_differences(loaded):
    def broken(arrays):
        arrays["layer1.0"][0, 0, 0, 0] = np.nan
        return {
            **arrays,
            "layer3": arrays["layer3"][..., :4],
            "layer3.0.conv1": arrays["layer3.0.conv1"][..., :4],
        }

    found = parity.verify(loaded, rewritten(broken), 1e-4)
    assert found["first_difference"]["layer"] == "stage1/block0"
    conv = next(r for r in found["layers"] if r["layer"] == "stage3/block0/conv1")
    assert conv["error"] == np.inf
    # A block may end elsewhere in the original, behind a pooling, say.
    assert found["not_compared"] == [("layer3", "it ends elsewhere than stage3: another shape")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "input"}, "no array 'input'"),
        (lambda a: {**a, "input": np.zeros((2, 32, 32, 4), np.float32)}, r"\(B,H,W,3\)"),
        (lambda a: {**a, "input": np.zeros((2, 32, 32, 3), np.uint8)}, "floats"),
        (lambda a: {**a, "layout": np.array("CHWN")}, "'NHWC' or 'NCHW'"),
        (lambda a: {"input": a["input"], "relu": a["conv1"]}, "names no layer"),
    ],
)
def test_references_that_are_none(loaded, change, words):
    with pytest.raises(WeightsError, match=words):
        parity.verify(loaded, rewritten(change), 1e-4)


def test_a_damaged_reference_is_a_sentence(loaded, tmp_path):
    file = parity.beside(FILE)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be read"):
        parity.verify(loaded, file, 1e-4)


def test_a_reference_runs_no_code(tmp_path):
    np.savez(tmp_path / "a.npz", input=np.asarray([{}], object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"pickled objects\. Nothing was executed"):
        parity.read(tmp_path / "a.npz")


def test_a_layer_that_has_no_counterpart_is_listed(loaded):
    file = rewritten(lambda a: {**a, "relu": a["conv1"]})
    found = parity.verify(loaded, file, 1e-4)
    assert found["agree"]
    assert [name for name, _ in found["not_compared"]] == ["relu"]
