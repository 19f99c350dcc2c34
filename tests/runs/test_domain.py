"""Runs with a second, unlabelled stream of pictures."""

import json

import jax
import numpy as np
import pytest

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.feeding.feed import streams, tables

CORAL = [{"name": "coral", "weight": 1.0, "schedule": "linear"}]


@pytest.fixture
def darker(pictures, tmp_path):
    """The same pictures at half the brightness, in another order."""
    held = dict(np.load(pictures))
    for split in ("train", "test"):
        held[f"x_{split}"] = held[f"x_{split}"][::-1] // 2
        held[f"y_{split}"] = held[f"y_{split}"][::-1]
    path = tmp_path / "darker.npz"
    np.savez(path, **held)
    return path


def test_its_test_split_is_reported_beside(tiny, darker, tmp_path, capsys):
    domain = {"name": "npz", "path": str(darker)}
    result = tlx.run(tiny(domain=domain, divergence=CORAL), out=tmp_path / "run")
    assert result["domain"]["name"] == "npz"
    assert result["domain"]["test"].keys() == result["test"].keys()
    assert result["domain"]["test"]["loss"] != pytest.approx(result["test"]["loss"], rel=1e-3)
    said = capsys.readouterr().out
    assert "domain test" in said
    assert "90 pictures without labels" in said


def test_labels_of_the_domain_reach_nobody(tiny, darker):
    experiment = assemble(parse(tiny(domain={"name": "npz", "path": str(darker)})))
    with streams(experiment, 0, {}) as batches:
        batch = next(batches)
    held = {path[0].name for path, _ in jax.tree.leaves_with_path(batch.domain)}
    assert held == {"inputs", "index", "weight"}
    assert batch.domain.inputs.keys() == {"image"}
    assert batch.domain.inputs["image"].shape == batch.inputs["image"].shape
    assert not np.array_equal(batch.domain.inputs["image"], batch.inputs["image"])


def test_value_and_weighted_value_are_logged_and_the_weight_falls(tiny, darker, tmp_path):
    domain = {"name": "npz", "path": str(darker)}
    tlx.run(tiny(domain=domain, divergence=CORAL, log_every=1), out=tmp_path / "run")
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    shares = [s["divergence/coral/weighted"] / s["divergence/coral"] for s in steps]
    np.testing.assert_allclose(shares, 1 - np.arange(12) / 12, rtol=1e-4)


def test_behind_a_frozen_prefix_whole_batches_are_compared(tiny, darker):
    """What asks who reads the pictures is given a batch as large as a step's."""
    kept = {"name": "finetune", "frozen": ["stage1"]}
    domain = {"name": "npz", "path": str(darker)}
    experiment = assemble(parse(tiny(domain=domain, divergence=CORAL, strategy=kept)))
    found = tables(experiment, experiment.phases[0], experiment.variables)
    assert set(found) == {"train", "val", "domain"}
    assert all(
        len(table.rows.inputs["image"]) == 1 for table in found.values()
    )  # nobody reads them


def test_its_pass_leaves_no_trace_in_the_statistics(tiny, darker, tmp_path):
    """Without a weight, a run beside a domain is the run without it."""
    domain = {"name": "npz", "path": str(darker)}
    idle = [{"name": "coral", "weight": 0.0}]
    sgd = {"optimizer": {"name": "sgd", "learning_rate": 0.05}}
    tlx.run(tiny(domain=domain, divergence=idle, **sgd), out=tmp_path / "with")
    tlx.run(tiny(**sgd), out=tmp_path / "without")
    found, wanted = (tlx.load(tmp_path / name).variables for name in ("with", "without"))
    for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
