"""Runs whose network is a small change to other weights: what they save, and finding it again."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tlx
from tlx.errors import WeightsError
from tlx.run_one import evaluate_run

LORA = {"name": "lora", "rank": 2, "targets": ["backbone/stage2/*"]}


@pytest.fixture
def base(tiny, tmp_path):
    """A file of weights, as somebody else might have left it."""
    tlx.run(tiny(steps=20), out=tmp_path / "source")
    path = tmp_path / "base.safetensors"
    path.write_bytes((tmp_path / "source/model/model.safetensors").read_bytes())
    return path


@pytest.fixture
def ran(tiny, tmp_path, base):
    out = tmp_path / "lora"
    return out, tlx.run(tiny(weights=f"safetensors:{base}", strategy=LORA, steps=30), out=out)


def test_only_the_change_is_saved(ran, base):
    out, result = ran
    saved = load_file(out / "model/model.safetensors")
    assert {path.split("/")[1] for path in saved} == {"head", "strategy"}
    assert sum(leaf.size for leaf in saved.values()) == result["trainable_parameters"]
    about = json.loads((out / "model/model.json").read_text())
    assert about["base"]["sha256"] == result["weights_sha256"]


def test_it_predicts_what_was_tested(ran, pictures):
    out, result = ran
    held = np.load(pictures)
    model = tlx.load(out)
    names = held["class_names"][held["y_test"]]
    rows = model.predict(held["x_test"])
    right = np.mean([row["class"] == name for row, name in zip(rows, names, strict=True)])
    assert right == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert evaluate_run(out)["test"]["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)


def test_the_network_is_the_base_plus_the_change(ran, base):
    out, _ = ran
    saved, start = load_file(out / "model/model.safetensors"), load_file(base)
    found = tlx.load(out).variables.params["backbone"]
    changed = found["stage2"]["conv"]["kernel"] - start["params/backbone/stage2/conv/kernel"]
    a, b = (saved[next(p for p in saved if p.endswith(f"kernel/{name}"))] for name in "AB")
    by_hand = np.einsum("hwir,or->hwio", a[:, :, :, 0].astype(np.float64), b[0, 0, 0]) * 4.0 / 2
    np.testing.assert_allclose(changed, by_hand, atol=1e-6)
    same = start["params/backbone/stage1/conv/kernel"]
    np.testing.assert_array_equal(found["stage1"]["conv"]["kernel"], same)


def test_other_weights_are_refused(ran, base):
    out, _ = ran
    other = {path: leaf + 1 for path, leaf in load_file(base).items()}
    save_file(other, base)
    with pytest.raises(WeightsError, match=r"another file than the one that was changed: its sha"):
        tlx.load(out)
    base.unlink()
    with pytest.raises(WeightsError, match=r"holds only what was changed.*tlx export"):
        tlx.load(out)


def test_another_run_starts_from_it(ran, tiny, tmp_path):
    out, _ = ran
    merged = tlx.load(out).variables
    tlx.run(tiny(weights=f"run:{out}", steps=1, strategy="feature_transfer"), out=tmp_path / "on")
    on = tlx.load(tmp_path / "on").variables
    jax.tree.map(np.testing.assert_array_equal, on.params["backbone"], merged.params["backbone"])


def test_from_random_weights_everything_is_saved(tiny, tmp_path):
    tlx.run(tiny(strategy=LORA), out=tmp_path / "run")
    assert "base" not in json.loads((tmp_path / "run/model/model.json").read_text())
    assert tlx.load(tmp_path / "run").variables.params.keys() == {"backbone", "head"}
