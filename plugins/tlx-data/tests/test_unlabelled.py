"""Pictures without labels, for runs that read none: loose in a folder."""

import json

import numpy as np
import pytest
from PIL import Image
from tlx_data.folder import Folder
from tlx_data.table import Table

import tlx
from tlx import cli
from tlx.errors import ConfigError, DataError
from tlx.testing import toys

RNG = np.random.default_rng(0)


def draw(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def flat(tmp_path):
    return draw(tmp_path / "flat", 30)


def run(source, **changes):
    return {
        "name": "unlabelled",
        "steps": 3,
        "batch_size": 5,
        "data": source,
        "backbone": f"{toys.__file__}:ToyBackbone",
        "head": "none",
        "strategy": {"name": "masked", "patch": 2},
        "sink": [],
        **changes,
    }


def test_a_run_without_a_head_needs_no_labels(flat, tmp_path, capsys):
    result = tlx.run(run({"name": "folder", "path": str(flat)}), out=tmp_path / "out")
    assert result["steps"] == 3
    assert sum(result["examples"].values()) == 30
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    seen = [line["metrics"] for line in map(json.loads, lines) if line["kind"] == "eval"]
    assert all({"rankme", "feature_std"} <= set(metrics) for metrics in seen)
    assert not any({"knn_accuracy", "probe_accuracy"} & set(metrics) for metrics in seen)
    assert "has no labels; what would need some, such as knn_accuracy" in " ".join(
        capsys.readouterr().out.split()
    )


def test_with_a_head_they_are_refused_as_before(flat):
    with pytest.raises(DataError, match="holds no folder of a class, only 30 files"):
        tlx.run(run({"name": "folder", "path": str(flat)}, head="softmax", strategy="finetune"))


def test_labels_that_are_there_are_read(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "classes" / name, 2)
    assert Folder(str(tmp_path / "classes"), label_needed=False).info.classes == ("a", "b")


def test_a_table_without_a_column_of_labels(flat, tmp_path):
    path = flat / "list.csv"
    path.write_text("image,stars\n" + "".join(f"{n}.png,{n % 4}\n" for n in range(30)))
    result = tlx.run(run({"name": "table", "path": str(path)}), out=tmp_path / "out")
    assert result["steps"] == 3
    assert "knn_accuracy" not in (tmp_path / "out/metrics.jsonl").read_text()
    path.write_text("image\n0.png\n")
    with pytest.raises(DataError, match="Training needs one"):
        _ = Table(str(path)).info
    path.write_text("image,class\n0.png,x\n1.png,y\n")
    assert Table(str(path), label_needed=False).info.classes == ("x", "y")


def test_splits_hold_their_pictures_loose(tmp_path):
    for name, count in (("Train", 4), ("val", 2), ("extra", 3)):
        draw(tmp_path / name, count)
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    ignoring = {"extra": "ignore"}
    source = Folder(str(tmp_path), splits=ignoring, label_needed=False)
    assert source.info.splits == {"train": 4, "val": 2}
    assert source.info.targets == ()
    assert "cover.png" in " ".join(source.notes)
    assert source.split("train").called(0) == str(tmp_path / "Train/0.png")
    # Beside a folder of no known name they are classes, as ever.
    assert Folder(str(tmp_path), layout="classes", label_needed=False).info.classes


@pytest.mark.parametrize("asked", [{"shots": 2}, {"sampling": "balanced"}])
def test_what_needs_a_class_is_refused(flat, tmp_path, asked):
    with pytest.raises(ConfigError, match="has no labels"):
        tlx.run(run({"name": "folder", "path": str(flat), **asked}), out=tmp_path / "out")


def test_loose_pictures_can_be_checked(flat, capsys):
    assert cli.main(["data", "check", str(flat)]) == 0
    out = capsys.readouterr().out
    assert "Nothing is wrong with the 30 pictures" in out
    (flat / "cut.png").write_bytes((flat / "0.png").read_bytes()[:40])
    assert cli.main(["data", "check", str(flat)]) == 2
    assert "cut.png" in capsys.readouterr().out
    assert cli.main(["data", "check", str(flat), "--head", "softmax"]) == 2
    assert "holds no folder of a class" in capsys.readouterr().err
