"""Numbers in units of their own, from a table through a run to predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

import tlx
from tlx.errors import ConfigError
from tlx.study import evaluate
from tlx.testing import toys

BACKBONE = f"{toys.__file__}:ToyBackbone"


@pytest.fixture
def prices(tmp_path, monkeypatch):
    """Pictures whose brightness says their price, 100,000 to 400,000, and their age, 20 to 80."""
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), [("image", "price", "age")]
    for number in range(60):
        value = rng.uniform()
        noise = rng.normal(0, 10, (8, 8, 3))
        pixels = np.clip(255 * value + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
        rows.append((f"{number}.png", round(100_000 + 300_000 * value), round(20 + 60 * value)))
    with open("prices.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return rows[1:]


def run(label, **changes):
    table = {
        "name": "prices",
        "data": {"name": "table", "path": "prices.csv", "label": label},
        "backbone": BACKBONE,
        "head": "regression",
        "strategy": {"name": "feature_transfer", "solver": "newton"},
        "epochs": 1,
        "batch_size": 16,
        "sink": [],
    }
    return tlx.run(table | changes)


def test_prices_train_and_are_told_in_their_own_units(prices, capsys):
    result = run("price")
    assert "in units of their spread: price 2" in capsys.readouterr().out
    assert result["test"]["r2"] > 0.5
    assert 1000 < result["test"]["mae"] < 60_000
    model = tlx.load("runs/prices")
    said = [one["value"] for one in model.predict([image for image, *_ in prices])]
    assert all(isinstance(value, float) for value in said)
    true = [price for _, price, _ in prices]
    assert metrics.r2_score(true, said) > 0.5
    head = json.loads(Path("runs/prices/model/model.json").read_text(encoding="utf-8"))["head"]
    assert head["options"]["std"][0] > 10_000
    again = evaluate("runs/prices")["test"]
    assert again["mae"] == pytest.approx(result["test"]["mae"], rel=1e-5)


def test_several_outputs_have_their_columns_names(prices):
    result = run(["price", "age"])
    assert {"mae_price", "mae_age", "r2_price", "r2_age", "r2", "loss"} <= set(result["test"])
    assert result["test"]["mae_age"] < 20 < 1000 < result["test"]["mae_price"]
    (one,) = tlx.load("runs/prices").predict("0.png")
    assert set(one) == {"price", "age"}
    assert 20 < one["age"] < 80


def test_a_head_that_does_not_fit_the_labels_leaves_no_folder(prices, tmp_path):
    for head, said in ("softmax", '"regression"'), ("multilabel", '"regression"'):
        with pytest.raises(tlx.errors.TlxError, match=said):
            run("price", head=head)
        assert not (tmp_path / "runs/prices").exists()
    classes = {"name": "digits"}
    for head in ("regression", "multilabel"):
        with pytest.raises(ConfigError, match=f"{head!r} takes .* one class for each example"):
            run("price", head=head, data=classes)
        assert not (tmp_path / "runs/prices").exists()


def test_outputs_in_other_units_than_the_sources_are_not_compared(prices):
    run("price", name="source")
    code = "return ((outputs - source_outputs) ** 2).mean()"
    Path("gap.py").write_text(f"def gap(outputs, source_outputs):\n    {code}\n")
    gap = {"name": "gap.py:gap", "weight": 1.0}
    weights = "run:runs/source"
    changes = {"weights": weights, "strategy": "finetune", "divergence": gap}
    assert run("price", name="same", **changes)
    with pytest.raises(
        ConfigError, match="compares outputs in different units: the source has mean"
    ):
        run("age", name="other", **changes)
    kept = {"name": weights.partition(":")[0], "path": "runs/source", "head": "keep"}
    measured = run("price", name="kept", weights=kept)
    head = json.loads(Path("runs/kept/model/model.json").read_text(encoding="utf-8"))["head"]
    before = json.loads(Path("runs/source/model/model.json").read_text(encoding="utf-8"))["head"]
    assert head == before
    assert measured["test"]["r2"] > 0.3
