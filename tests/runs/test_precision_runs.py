"""Runs that compute in bfloat16 learn as much, and leave a model like any other."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx


def test_it_learns_as_much_and_predicts_in_float32_what_it_was_tested_as(tiny, tmp_path, pictures):
    table = tiny(steps=150, eval_every=10, log_every=50)
    exact, low = (
        tlx.run({**table, "precision": how}, out=tmp_path / how) for how in ("float32", "bf16")
    )
    assert exact["test"]["accuracy"] > 0.9
    assert abs(exact["test"]["accuracy"] - low["test"]["accuracy"]) <= 0.04
    tensors = load_file(tmp_path / "bf16" / "model" / "model.safetensors")
    assert {leaf.dtype for leaf in tensors.values()} == {np.dtype(np.float32)}
    assert any((leaf.view(np.uint32) & 0xFFFF).any() for leaf in tensors.values())

    file = np.load(pictures)
    images, labels = file["x_test"], file["y_test"]
    saved = tlx.load(tmp_path / "bf16")
    assert saved.model.precision == "float32"
    said = np.stack([answer["probabilities"] for answer in saved.predict(images)])
    assert np.mean(said.argmax(1) == labels) == pytest.approx(low["test"]["accuracy"])
    loss = -np.log(said[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(low["test"]["loss"], rel=1e-5)

    asked = tlx.load(tmp_path / "bf16", precision="bf16")
    there = np.stack([answer["probabilities"] for answer in asked.predict(images)])
    assert 0 < np.abs(there - said).max() < 0.05
    jax.tree.map(np.testing.assert_array_equal, asked.variables, saved.variables)


@pytest.mark.parametrize("where", [{}, pytest.param({"cache_gb": 1e-9}, marks=pytest.mark.slow)])
def test_what_a_frozen_prefix_says_is_kept_in_it(tiny, tmp_path, monkeypatch, capsys, where):
    """In memory or in files, and neither mixed up with what was computed in float32."""
    monkeypatch.setenv("TLX_CACHE", str(tmp_path / "tables"))
    tlx.run(tiny(steps=20), out=tmp_path / "source")
    table = tiny(
        weights=f"run:{tmp_path / 'source'}",
        strategy={"name": "finetune", "frozen": ["stage1"]},
        divergence=[{"name": "feature_l2", "weight": 0.5}],
        log_every=1,
        **where,
    )
    tlx.run(table, out=tmp_path / "float32")
    low = {**table, "precision": "bf16"}
    capsys.readouterr()
    tlx.run(low, out=tmp_path / "once")
    assert "was computed once" in capsys.readouterr().out
    tlx.run({**low, "cache_gb": 0}, out=tmp_path / "anew")
    once, anew = (steps(tmp_path / name) for name in ("once", "anew"))
    apart = [one[0]["divergence/feature_l2"] for one in (once, anew)]
    assert apart[0] == pytest.approx(apart[1], rel=0.05, abs=1e-4), "the source computes in it, too"
    for one, other in zip(once, anew, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
    assert once[0]["loss"] != steps(tmp_path / "float32")[0]["loss"]


def steps(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]
