"""A sweep: in one program or one after another it is what `tlx.run` gives at every point."""

import json
import math
import tomllib

import numpy as np
import pytest
import tomli_w

import tlx
from tlx import cli
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ConfigError, DivergedError
from tlx.studies import sampler, sweep_results, together
from tlx.studies import sweep as sweeps
from tlx.studies.sweep import sweep
from tlx.studies.sweep_space import axes

RATES, DECAYS, SEEDS = (0.01, 0.3), (0.0, 0.2), (0, 1)
PROBE = {"strategy": "feature_transfer", "optimizer": {"name": "sgd", "learning_rate": 0.1}}


@pytest.fixture
def source(tiny, tmp_path):
    """A finished run, whose backbone is the source."""
    tlx.run(tiny(steps=3), out=tmp_path / "source")
    return {"name": "run", "path": str(tmp_path / "source")}


@pytest.fixture
def run_file(tiny, source, tmp_path):
    """The path of a run file of a probe; keyword arguments change it."""

    def written(**changes):
        table = tiny(**{**PROBE, "weights": source, **changes})
        (tmp_path / "run.toml").write_text(tomli_w.dumps(table))
        return tmp_path / "run.toml"

    return written


def alone(table, tmp_path, **changes):
    """What a run by itself gives."""
    return tlx.run({**table, **changes}, out=tmp_path / "alone", overwrite=True)


def test_together_is_each_run_by_itself(run_file, tiny, source, tmp_path):
    path = run_file()
    over = [f"optimizer.learning_rate={RATES[0]},{RATES[1]}", "optimizer.weight_decay=0.0,0.2"]
    found = sweep(path, over, seeds=2, out=tmp_path / "out")
    rows = {tuple(row["point"].values()): row for row in found["points"]}
    tested = {}
    for rate in RATES:
        for decay in DECAYS:
            changes = {"learning_rate": rate, "weight_decay": decay}
            table = tiny(**PROBE, weights=source)
            table["optimizer"] = {**table["optimizer"], **changes}
            each = [alone(table, tmp_path, seed=seed) for seed in SEEDS]
            values = [result["val"]["accuracy"] for result in each]
            assert rows[rate, decay]["values"] == pytest.approx(values, abs=1e-6)
            loss = np.mean([result["val"]["loss"] for result in each])
            assert rows[rate, decay]["loss"] == pytest.approx(loss, rel=1e-5)
            tested[rate, decay] = [result["test"]["accuracy"] for result in each]
    chosen = tuple(found["chosen"].values())
    assert found["test"]["values"] == pytest.approx(tested[chosen], abs=1e-6)
    best = max(rows.values(), key=lambda row: (row["mean"], -row["loss"]))
    assert found["chosen"] == best["point"]


def test_together_is_each_run_by_itself_in_bfloat16(run_file, tiny, source, tmp_path, capsys):
    over = [f"optimizer.learning_rate={RATES[0]},{RATES[1]}"]
    found = sweep(run_file(precision="bf16"), over, out=tmp_path / "out")
    assert "one run after another" not in capsys.readouterr().out
    for row in found["points"]:
        table = tiny(**{**PROBE, "weights": source, "precision": "bf16"})
        rate = {"learning_rate": row["point"]["optimizer.learning_rate"]}
        table["optimizer"] = {**table["optimizer"], **rate}
        result = alone(table, tmp_path)
        # Features are rounded to 8 bits in both, in programs that may round in another order.
        assert row["loss"] == pytest.approx(result["val"]["loss"], rel=1e-2)


def test_together_draws_classes_as_a_run_by_itself_does(run_file, tiny, source, tmp_path, capsys):
    data = {**tiny()["data"], "sampling": "balanced"}
    over = [f"optimizer.learning_rate={RATES[0]},{RATES[1]}"]
    found = sweep(run_file(data=data), over, out=tmp_path / "out")
    assert "one run after another" not in capsys.readouterr().out
    for row in found["points"]:
        table = tiny(**PROBE, weights=source, data=data)
        table["optimizer"] = {
            **table["optimizer"],
            "learning_rate": row["point"]["optimizer.learning_rate"],
        }
        result = alone(table, tmp_path)
        assert row["loss"] == pytest.approx(result["val"]["loss"], rel=1e-5)


def test_one_after_another_is_each_run_by_itself(run_file, tiny, source, tmp_path, capsys):
    over = ["strategy=finetune,feature_transfer"]
    found = sweep(run_file(steps=4), over, out=tmp_path / "out")
    assert "one run after another, because strategy.name changes the program" in (
        capsys.readouterr().out
    )
    for row in found["points"]:
        table = tiny(**{**PROBE, "weights": source, "steps": 4, **row["point"]})
        single = alone(table, tmp_path)
        assert row["mean"] == single["val"]["accuracy"]
        if row["point"] == found["chosen"]:
            assert found["test"]["values"] == [single["test"]["accuracy"]]
    assert not list((tmp_path / "out").glob("tmp*"))


def test_an_interrupted_sweep_trains_only_what_is_missing(run_file, tmp_path, monkeypatch):
    path, over, out = run_file(steps=4), ["strategy=finetune,feature_transfer"], tmp_path / "out"
    whole = sweep(path, over, out=tmp_path / "whole")
    trained, train = [], sweeps.train

    def stopped(experiment, *rest, **named):
        if trained:
            raise KeyboardInterrupt
        trained.append(experiment.config.strategy.name)
        return train(experiment, *rest, **named)

    monkeypatch.setattr(sweeps, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(path, over, out=out)
    with (out / "points.jsonl").open("a") as file:
        file.write('{"point": {"strategy"')  # and the machine went down while it wrote

    def watched(experiment, *rest, **named):
        trained.append(experiment.config.strategy.name)
        return train(experiment, *rest, **named)

    monkeypatch.setattr(sweeps, "train", watched)
    resumed = sweep(path, over, out=out, resume=True)
    assert trained[:2] == ["finetune", "feature_transfer"]
    same = ("points", "chosen", "test")
    assert {k: resumed[k] for k in same} == {k: whole[k] for k in same}
    count = len(trained)
    assert sweep(path, over, out=out, resume=True) == json.loads((out / "result.json").read_text())
    assert len(trained) == count
    with pytest.raises(ConfigError, match="of a sweep over something else"):
        sweep(path, ["strategy=finetune"], out=out, resume=True)


def test_a_point_that_diverges_is_not_chosen(run_file, tmp_path):
    over = ["optimizer.learning_rate=1e38,0.01"]
    found = sweep(run_file(), over, out=tmp_path / "out")
    assert [row["mean"] is None for row in found["points"]] == [True, False]
    assert found["chosen"] == {"optimizer.learning_rate": 0.01}
    assert math.isfinite(found["test"]["accuracy"])
    with pytest.raises(DivergedError, match="Every point"):
        sweep(run_file(), ["optimizer.learning_rate=1e38,2e38"], out=tmp_path / "none")


def test_it_leaves_a_table_a_picture_and_the_chosen_run(run_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = run_file(sink=["html"], out="somewhere")
    over = [
        "--over",
        "optimizer.learning_rate=log:1e-3:1:3",
        "--over",
        "optimizer.weight_decay=0,1",
    ]
    assert cli.main(["sweep", str(path), *over, "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert "6 points x 2 seeds, all of them in one program" in said
    assert "95 % interval" in said
    assert "chosen" in said
    out = tmp_path / "somewhere-sweep"
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 2
    assert "optimizer.learning_rate" in page
    assert cli.main(["run", str(out / "chosen.toml"), "--out", "again"]) == 0
    result = json.loads((out / "result.json").read_text())
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["test"]["accuracy"] == pytest.approx(result["test"]["values"][0], abs=1e-6)


def test_a_sampler_draws_where_there_is_no_grid(run_file, tmp_path):
    over = ["optimizer.learning_rate=log:1e-3:1", "optimizer.weight_decay=0.0,0.1"]
    one, other = (
        sweep(run_file(), over, trials=10, out=tmp_path / name) for name in ("one", "other")
    )
    assert one["points"] == other["points"]
    rates = [row["point"]["optimizer.learning_rate"] for row in one["points"]]
    assert all(1e-3 <= rate <= 1 for rate in rates)
    assert len(set(rates)) > 5


def test_a_sampler_goes_where_it_is_good():
    def ask(points):
        return [[-((math.log10(point["a"]) + 2) ** 2)] for point in points]

    found = sampler.sampled(axes(["a=log:1e-6:1"]), 60, ask, direction="max", seed=0, at_once=1)
    late = [abs(math.log10(point["a"]) + 2) for point in found[30:]]
    assert np.median(late) < 0.6  # drawn evenly, it would be 1.6


@pytest.mark.parametrize(
    ("changes", "over", "options", "words"),
    [
        ({}, ["optimizer.learning_rate=log:1e-3:1"], {}, "--trials N"),
        ({}, ["optimizer.learning_rate=0.1"], {"trials": 3}, "this sweep is a grid"),
        ({}, ["optimizer.learning_rate=0.1"], {"seeds": 0}, "at least 1"),
        ({}, ["optimizer.learnig_rate=0.1"], {}, "learning_rate"),
        ({}, ["optimizer.learning_rate=-1,0.1"], {}, "learning_rate"),
        ({"variant": [{"name": "a"}, {"name": "b"}]}, ["seed=1,2"], {}, "variants"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    run_file, tmp_path, changes, over, options, words
):
    with pytest.raises(ConfigError, match=words):
        sweep(run_file(**changes), over, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_why_runs_cannot_share_a_program(tiny, source):
    def said(**changes):
        return together.reason(
            assemble(parse(tiny(**{**PROBE, "weights": source, **changes}))), [0, 1]
        )

    assert said() == ""
    assert "trains the whole network" in said(strategy="finetune")
    assert "cache_gb" in said(cache_gb=0)
    assert "left out" in said(optimizer={"name": "adam", "on_nan": "skip"})
    assert "augmented" in said(augmentation=["flip"])
    assert "start at random" in said(weights="none")
    assert "solved for" in said(strategy={"name": "feature_transfer", "solver": "newton"})


def test_the_mean_over_seeds_has_students_interval(tmp_path):
    from scipy import stats

    found = sweep_results.Found(tmp_path / "lines", "accuracy", "max")
    values = [0.5, 0.625, 0.75]
    found.add({"a": 1}, [{"accuracy": v, "loss": 1.0} for v in values])
    interval = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    row = found.row({"a": 1})
    assert (row["mean"] - row["half"], row["mean"] + row["half"]) == pytest.approx(interval)


def test_over_lambda_it_says_what_was_kept_of_the_source(run_file, tmp_path):
    path = run_file(
        strategy="finetune", sink=["html"], divergence=[{"name": "l2_sp", "weight": 0.1}]
    )
    over = ["divergence.l2_sp.weight=0.01,3"]
    found = sweep(path, over, out=tmp_path / "out")
    free, held = (row["kept"] for row in found["points"])
    assert held["moved"] < free["moved"]
    assert held["agreement"] >= free["agreement"]
    assert free["before"] == held["before"]
    assert {"source", "metric", "name"} <= set(free)
    table = {**PROBE, **tomllib.loads(path.read_text())}
    table["divergence"][0]["weight"] = 3.0
    single = alone(table, tmp_path)["forgetting"]
    assert held["moved"] == pytest.approx(single["drift"]["backbone"], rel=1e-5)
    assert held["source"] == pytest.approx(single["source"]["after"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What was kept of the source" in page
    assert page.count("<svg") == 2
    again = sweep(path, over, out=tmp_path / "out", resume=True)
    assert again["points"] == found["points"]
