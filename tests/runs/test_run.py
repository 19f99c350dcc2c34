"""Whole runs of a toy network: what they leave, repeat, freeze, select and refuse."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx
from tlx import config as configs
from tlx.assemble import assemble
from tlx.errors import CheckpointError, ConfigError, DataError, DivergedError
from tlx.run_one import evaluate_run
from tlx.types import Batch


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def same(a, b, pattern=""):
    names = [name for name in a if pattern in name]
    assert names
    assert a.keys() == b.keys()
    return all(a[name].tobytes() == b[name].tobytes() for name in names)


def test_leaves_a_folder_that_explains_itself(tiny, tmp_path, monkeypatch):
    out, shown = tmp_path / "run", []
    monkeypatch.setattr("tlx.run_one._pictures", lambda *_: shown.append(1) or {})
    result = tlx.run(tiny(sink=["html"]), out=out)
    assert shown
    left = {path.name for path in out.iterdir()}
    assert left == {
        "run.toml",
        "split.csv",
        "provenance.json",
        "metrics.jsonl",
        "checkpoints",
        "model",
        "result.json",
        "report.html",
    }
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["test"]["accuracy"] > 0.5
    assert result["val"]["accuracy"] > 0.5
    assert result["trainable_parameters"] == result["parameters"] > 0
    assert result["compile_seconds"] > 0
    assert {"seconds", "seed", "versions"} <= result.keys()
    assert result["examples"] == {"train": 69, "val": 21, "test": 50}
    assert configs.read(out) == configs.parse(tiny(sink=["html"]))


def test_the_same_run_twice_is_identical(tiny, tmp_path, monkeypatch):
    unwanted = "tlx.run_one._pictures"  # are read for a sink that the run file names
    monkeypatch.setattr(unwanted, lambda *_: pytest.fail("nobody shows pictures"))
    augmentation = ["flip", {"name": "crop", "padding": 1}]
    for name in "ab":
        tlx.run(tiny(augmentation=augmentation), out=tmp_path / name)
    tlx.run(tiny(augmentation=augmentation, seed=1), out=tmp_path / "c")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a, c)


def test_frozen_leaves_and_their_statistics_are_bit_identical(tiny, tmp_path):
    base = tiny(steps=20)
    tlx.run(base, out=tmp_path / "source")
    before = weights(tmp_path / "source")
    start = {"weights": f"run:{tmp_path / 'source'}"}

    tlx.run(tiny(**start, strategy="feature_transfer"), out=tmp_path / "probe")
    after = weights(tmp_path / "probe")
    assert same(before, after, "/backbone/")
    assert not same(before, after, "params/head/")

    partly = {"name": "finetune", "frozen": ["stage1"]}
    tlx.run(tiny(**start, strategy=partly), out=tmp_path / "part")
    after = weights(tmp_path / "part")
    assert same(before, after, "/backbone/stage1/")
    assert not same(before, after, "params/backbone/stage2/")
    assert not same(before, after, "state/backbone/stage2/")

    kept = {"name": "finetune", "norm": "frozen"}
    tlx.run(tiny(**start, strategy=kept), out=tmp_path / "kept")
    after = weights(tmp_path / "kept")
    assert same(before, after, "state/backbone/")
    assert not same(before, after, "params/backbone/stage1/")


def test_prediction_is_what_evaluation_saw(tiny, pictures, tmp_path):
    result = tlx.run(tiny(), out=tmp_path / "run")
    held = np.load(pictures)
    model = tlx.load(tmp_path / "run")
    rows = model.predict(held["x_test"])
    names = held["class_names"][held["y_test"]]
    accuracy = np.mean([row["class"] == name for row, name in zip(rows, names, strict=True)])
    assert accuracy == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    # Class for class, not only on average.
    config = configs.read(tmp_path / "run")
    experiment = assemble(config)
    batch = Batch(
        {"image": held["x_test"]}, {"label": held["y_test"]},
        index=np.arange(50), weight=np.ones(50, np.float32),
    )  # fmt: skip
    passed = experiment.model.apply(model.variables, batch, rng=jax.random.key(0), mode="eval")
    classes = experiment.model.head.predict(passed.outputs)["class"]
    assert [experiment.info.classes[c] for c in classes] == [row["class"] for row in rows]
    assert model.features(held["x_test"][:3])["pooled"].shape == (3, 8)
    again = evaluate_run(tmp_path / "run")
    for split, count in (("val", 21), ("test", 50)):
        counts = {"correct": round(result[split]["accuracy"] * count), "examples": count}
        assert again[split] == pytest.approx({**result[split], **counts})


def test_selection_is_on_validation_and_can_stop_early(tiny, tmp_path):
    table = tiny(steps=60, patience=2, optimizer={"name": "sgd", "learning_rate": 1e-7})
    result = tlx.run(table, out=tmp_path / "run")
    assert result["steps"] < 60
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    evals = [line for line in lines if line["kind"] == "eval"]
    assert {line["split"] for line in evals} == {"val"}
    assert len({line["metrics"]["accuracy"] for line in evals}) == 1, "no tie to be decided"
    losses = [line["metrics"]["loss"] for line in evals]
    assert len(set(losses)) > 1
    best = evals[losses.index(min(losses))]
    assert result["best_step"] == best["step"]
    assert result["val"] == pytest.approx(best["metrics"])


def test_l2_sp_holds_the_model_near_its_source(tiny, tmp_path):
    tlx.run(tiny(steps=20), out=tmp_path / "source")
    before = weights(tmp_path / "source")
    start = {"weights": f"run:{tmp_path / 'source'}"}

    def distance(weight):
        out = tmp_path / f"{weight}"
        divergence = [{"name": "l2_sp", "weight": weight}]
        tlx.run(tiny(**start, divergence=divergence), out=out)
        after = weights(out)
        inside = [name for name in after if name.startswith("params/backbone")]
        return sum(float(np.sum((after[name] - before[name]) ** 2)) for name in inside)

    far, near, nearest = distance(0.0), distance(1.0), distance(100.0)
    assert far > near > nearest


def test_masked_pretraining_then_transfer(tiny, tmp_path, capsys):
    masked = {"name": "masked", "patch": 4}
    result = tlx.run(tiny(strategy=masked, head="none"), out=tmp_path / "masked")
    assert f"--weights {tmp_path / 'masked'}" in capsys.readouterr().out
    assert result["test"]["loss"] > 0
    assert "accuracy" not in result["test"]
    names = weights(tmp_path / "masked")
    assert all("/backbone/" in name for name in names)
    tlx.run(tiny(weights=f"run:{tmp_path / 'masked'}"), out=tmp_path / "after")
    with pytest.raises(ConfigError, match="trained features without a head"):
        evaluate_run(tmp_path / "masked")


def test_a_folder_in_use_is_not_touched(tiny, tmp_path):
    out = tmp_path / "run"
    tlx.run(tiny(), out=out)
    with pytest.raises(ConfigError, match=r"--resume to go on.*--overwrite"):
        tlx.run(tiny(), out=out)
    changed = tiny(optimizer={"name": "adam", "learning_rate": 0.02})
    with pytest.raises(CheckpointError, match=r"optimizer\.learning_rate"):
        tlx.run(changed, out=out, resume=True)
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("words")
    for ways in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(ConfigError):
            tlx.run(tiny(), out=mine, **ways)
    assert (mine / "chapter.txt").read_text() == "words"
    tlx.run(tiny(steps=2), out=out, overwrite=True)
    assert configs.read(out).steps == 2


def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path):
    table = tiny(optimizer={"name": "sgd", "learning_rate": 1e30}, steps=40)
    with pytest.raises(DivergedError, match=r"task loss is (nan|inf) at step \d+"):
        tlx.run(table, out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def test_variants_share_the_split_and_end_in_one_comparison(tiny, tmp_path):
    variant = [
        {"name": "short"},
        {"name": "long-and-slow", "steps": 16, "optimizer": {"learning_rate": 0.001}},
    ]
    result = tlx.run(tiny(variant=variant, sink=["html"]), out=tmp_path / "run")
    assert list(result["variants"]) == ["short", "long-and-slow"]
    assert result["variants"]["long-and-slow"]["steps"] == 16
    assert (tmp_path / "run/long-and-slow/model/model.safetensors").exists()
    assert json.loads((tmp_path / "run/result.json").read_text())["variants"].keys() == {
        "short", "long-and-slow",
    }  # fmt: skip
    html = (tmp_path / "run/report.html").read_text()
    assert "long-and-slow" in html
    assert configs.read(tmp_path / "run/long-and-slow").optimizer.name == "adam"
    assert result["text"] in html or "ahead" in html
    again = tlx.run(tiny(variant=variant, sink=["html"]), out=tmp_path / "run", resume=True)
    assert again["variants"] == result["variants"], "finished variants are not trained again"


def test_a_run_that_was_refused_leaves_no_trace(tiny, tmp_path):
    nothing = tiny(data={"name": "npz", "path": str(tmp_path / "none.npz")})
    with pytest.raises(DataError, match=r"none\.npz"):
        tlx.run(nothing, out=tmp_path / "run")
    with pytest.raises(DataError):
        tlx.run({**nothing, "variant": [{"name": "a"}, {"name": "b"}]}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_run_can_be_the_source(tiny, tmp_path):
    """Distillation is said with a named source: its outputs pull a model that starts at random."""
    tlx.run(tiny(steps=20), out=tmp_path / "teacher")
    sources = {"teacher": {"run": str(tmp_path / "teacher")}}

    def gap(weight):
        divergence = [{"name": "kl", "weight": weight, "source": "teacher"}]
        out = tmp_path / f"student-{weight}"
        tlx.run(tiny(seed=5, sources=sources, divergence=divergence), out=out)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        return [line["divergence/kl"] for line in lines if line["kind"] == "train"][-1]

    assert 0 < gap(10.0) < gap(0.0)
