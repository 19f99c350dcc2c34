"""`examples/breast_cancer.toml` and `examples/penguins.toml` from end to end, and scikit-learn's
logistic regression on the same rows."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import tlx
from tlx import config
from tlx.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def ran(name, tmp_path, monkeypatch):
    """The run as a user starts it, here; its results by variant."""
    monkeypatch.chdir(tmp_path)
    return tlx.run(config.read(EXAMPLES / f"{name}.toml"))["variants"]


def splits_of(folder):
    """Split -> numbers of its rows, as the run wrote them down."""
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    return {s: [int(r["index"]) for r in rows if r["split"] == s] for s in ("train", "val", "test")}


def logistic(frame, labels, splits):
    """The test accuracy of scikit-learn on the same split."""
    numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    number = make_column_selector(dtype_include=np.number)
    columns = make_column_transformer(
        (numeric, number), (words, make_column_selector(dtype_exclude=np.number))
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame.iloc[splits["train"]], labels[splits["train"]])
        return model.score(frame.iloc[splits["test"]], labels[splits["test"]])


def test_breast_cancer_is_told_as_well_as_by_logistic_regression(tmp_path, monkeypatch, capsys):
    found = ran("breast_cancer", tmp_path, monkeypatch)
    data = load_breast_cancer(as_frame=True)
    out = tmp_path / "runs/breast_cancer"
    theirs = logistic(data.data, data.target.to_numpy(), splits_of(out / "one-layer"))
    assert theirs > 0.95
    for name, result in found.items():
        assert result["test"]["accuracy"] > theirs - 0.03, name
    capsys.readouterr()
    assert main(["eval", str(out / "two-layers")]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_penguins_are_told_as_well_as_by_logistic_regression(tmp_path, monkeypatch, capsys):
    pytest.importorskip("palmerpenguins")
    from tlx_data.penguins import penguins

    found = ran("penguins", tmp_path, monkeypatch)
    path = penguins().path
    frame = pd.read_csv(path)
    labels, out = frame.pop("species").to_numpy(), tmp_path / "runs/penguins"
    frame["sex"] = frame["sex"].astype(object).where(frame["sex"].notna(), None)
    for name, result in found.items():
        theirs = logistic(frame, labels, splits_of(out / name))
        assert theirs > 0.9
        assert result["test"]["accuracy"] > theirs - 0.04, name
    predicts(out / "all-labels", path, frame, labels, found, capsys)


def predicts(folder, path, frame, labels, found, capsys):
    """The rows of a file, of a mapping and of a line, as they were when the run was tested."""
    test = splits_of(folder)["test"]
    capsys.readouterr()
    assert main(["predict", str(folder), path, "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert len(lines) == len(frame)
    assert lines[0]["row"] == f"Line 2 of {path!r}"
    right = np.mean([lines[row]["class"] == labels[row] for row in test])
    assert right == pytest.approx(found["all-labels"]["test"]["accuracy"])
    model = tlx.load(folder)
    rows = [{c: None if pd.isna(v) else v for c, v in frame.iloc[row].items()} for row in test[:3]]
    answers = model.predict(rows)
    assert [a["class"] for a in answers] == [lines[row]["class"] for row in test[:3]]
    alone = model.predict({**rows[0], "island": "Elsewhere"})  # a word that training had not
    assert np.isfinite(alone[0]["probability"])
    with pytest.raises(tlx.errors.DataError, match=r"column 'islands', .* Did you mean 'island'"):
        model.predict({**rows[0], "islands": "Dream"})
