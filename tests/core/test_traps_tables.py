"""What is learnt of rows that test: scaled over the whole table, a table says more of its test rows
than it may, and a pipeline that is fitted anew says other things of the same row."""

import csv
import json

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tlx_table import RowInput

import tlx
from tlx.cli import main
from tlx.errors import TlxError
from tlx.run_one import evaluate_run

HEADER = ("size", "colour", "gap", "split", "label")


def rows(far=False):
    """60 rows; with `far`, those of validation and test are from elsewhere."""
    rng = np.random.default_rng(0)
    for number in range(60):
        split = ("train", "train", "train", "val", "test")[number % 5]
        label = number % 2
        size, gap, colour = label + rng.normal(), rng.normal(), "rgb"[rng.integers(3)]
        gap = "" if number % 7 == 0 else f"{gap:.3f}"
        if far and split != "train":
            size, gap, colour = 1e6 * size, "" if number % 2 else "-1e5", f"other {number}"
        yield f"{size:.3f}", colour, gap, split, "ab"[label]


@pytest.fixture
def table(tmp_path):
    """A function from `far` to the run file's table of a run on those rows."""

    def written(far=False, **changes):
        path = tmp_path / f"far-{far}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows(far)])
        return {
            "name": f"far-{far}", "steps": 12, "batch_size": 6, "eval_every": 0.5, "sink": [],
            "checkpoint_seconds": 0, "out": str(tmp_path / f"out-{far}"),
            "data": {"name": "table", "path": str(path)},
            "backbone": {"name": "mlp", "width": 8}, "strategy": "finetune", **changes,
        }  # fmt: skip

    return written


def inputs_of(folder):
    return json.loads((folder / "model/model.json").read_text())["inputs"]


def test_rows_that_test_change_nothing_of_what_is_learnt(table, tmp_path):
    """A naive script's mean moves with its test rows; those that a run saves are the same."""
    near, far = (
        np.asarray([[float(row[0])] for row in rows(way)], np.float64) for way in (False, True)
    )
    assert StandardScaler().fit(far).scale_ > 1e3 * StandardScaler().fit(near).scale_
    colours = [[[row[1]] for row in rows(way)] for way in (False, True)]
    seen = [OneHotEncoder().fit(one).categories_[0] for one in colours]
    assert len(seen[1]) > len(seen[0]) == 3

    found = {}
    for way in (False, True):
        tlx.run(table(way))
        found[way] = inputs_of(tmp_path / f"out-{way}")
    assert found[True] == found[False]
    options = found[False]["row"]["options"]
    train = [row for row in rows() if row[3] == "train"]
    np.testing.assert_allclose(options["mean"][0], np.mean([float(row[0]) for row in train]))
    assert options["vocabulary"] == [["b", "g", "r"]]


def test_nothing_is_learnt_anew_where_a_model_is_used(table, tmp_path, monkeypatch):
    """Predictions for one row alone, or for many rows far off, are those of the saved state."""
    tlx.run(table())
    folder = tmp_path / "out-False"
    before = inputs_of(folder)
    model = tlx.load(folder)
    monkeypatch.setattr(RowInput, "fitted", None)
    given = [{"size": 1.0, "colour": "r", "gap": None}, {"size": 9e9, "colour": "x", "gap": 5}]
    together, alone = model.predict(given), model.predict(given[:1])
    np.testing.assert_allclose(
        together[0]["probabilities"], alone[0]["probabilities"], rtol=1e-5, atol=1e-7
    )
    assert main(["predict", str(folder), str(tmp_path / "far-False.csv")]) == 0
    assert inputs_of(folder) == before


def test_a_run_is_measured_with_what_it_learnt(table, tmp_path):
    """Evaluated again it says the same, and with other training rows it refuses."""
    result = tlx.run(table())
    folder = tmp_path / "out-False"
    again = evaluate_run(folder)
    assert again["test"]["accuracy"] == result["test"]["accuracy"]
    assert again["val"]["loss"] == pytest.approx(result["val"]["loss"])
    path = tmp_path / "far-False.csv"
    path.write_text(path.read_text().replace(",r,", ",red,"))
    with pytest.raises(TlxError, match="is not what the run in"):
        evaluate_run(folder)


def test_weights_bring_what_they_learnt(table, tmp_path):
    """A run that starts from another one standardises as that one did, on whatever rows."""
    tlx.run(table())
    source = tmp_path / "out-False"
    tlx.run(table(True, weights=str(source), out=str(tmp_path / "next")))
    assert inputs_of(tmp_path / "next") == inputs_of(source)


def test_a_file_of_weights_says_what_it_learnt_of_rows(table, tmp_path, capsys):
    tlx.run(table())
    capsys.readouterr()
    assert main(["weights", "inspect", str(tmp_path / "out-False")]) == 0
    said = capsys.readouterr().out
    assert "numeric size gap" in said
