"""What an older version left is read by this one.

`stored/first` is the folder of a finished run of tlx 0.1.0, the first whose formats are kept, and
`stored/colours.npz` its pictures.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tlx
from tlx.testing import toys

STORED = Path(__file__).with_name("stored")


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A copy, in the folder that its run file was started in."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    shutil.copy(toys.__file__, tmp_path / "toys.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "first"


def test_its_model_predicts_what_was_tested(first):
    result = json.loads((first / "result.json").read_text())
    with np.load(first.parent / "colours.npz") as file:
        said = tlx.load(first, trust_code=True).predict(file["x_test"])
        names = file["class_names"][file["y_test"]]
    right = np.mean([row["class"] == name for row, name in zip(said, names, strict=True)])
    assert right == pytest.approx(result["test"]["accuracy"])


def test_its_checkpoint_is_gone_on_with(first):
    """As if it had been killed between its last checkpoint and its result."""
    before = json.loads((first / "result.json").read_text())
    (first / "result.json").unlink()
    shutil.rmtree(first / "model")
    after = tlx.run(first / "run.toml", out=first, resume=True)
    assert (after["steps"], after["best_step"]) == (before["steps"], before["best_step"])
    for split in ("val", "test"):
        assert after[split] == pytest.approx(before[split], rel=1e-4)
    assert (first / "model" / "model.safetensors").is_file()
