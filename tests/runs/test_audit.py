"""An audit where the truth is known: a source that helps, one that hurts, too little to tell."""

import json
import tomllib

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import load_file

import tlx
from tlx import cli
from tlx.errors import ConfigError, DataError, StudyError
from tlx.studies.auditing import audit
from tlx.testing import toys

TOY = {"name": f"{toys.__file__}:ToyBackbone", "width": 8, "dropout": 0.0}


def gratings(rng, count):
    """(count,8,8,3) uint8 stripes in four directions, of random phase, colour and noise, and which
    direction it is."""
    label = np.arange(count) % 4
    y, x = np.mgrid[:8, :8]
    along = np.stack([x, y, x + y, x - y])[label]
    wave = np.sign(np.sin(along * np.pi / 2 + rng.uniform(0, 6, (count, 1, 1))))
    colour = rng.uniform(0.3, 1, (count, 1, 1, 3))
    image = 127 + 60 * wave[..., None] * colour + rng.normal(0, 45, (count, 8, 8, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A folder with pictures and two sources as weights of an audited run: `good` was trained on
    many pictures of the same kind; in `dead`, the same one, no unit answers any more."""
    folder, rng = tmp_path_factory.mktemp("worlds"), np.random.default_rng(0)
    for name, train, test in (("many", 800, 40), ("few", 60, 120), ("tiny", 60, 5)):
        arrays = {}
        for split, count in (("train", train), ("test", test)):
            arrays[f"x_{split}"], arrays[f"y_{split}"] = gratings(rng, count)
        np.savez(folder / f"{name}.npz", **arrays)
    optimizer = {"name": "adam", "learning_rate": 0.02}
    run = table(folder, "many", steps=200, batch_size=40, optimizer=optimizer)
    assert tlx.run(run, out=folder / "good")["test"]["accuracy"] > 0.95
    leaves = load_file(folder / "good" / "model" / "model.safetensors")
    np.savez(folder / "good.npz", **leaves)
    bias = "params/backbone/stage1/norm/bias"
    np.savez(folder / "dead.npz", **{**leaves, bias: leaves[bias] - 50})
    return folder


def table(folder, data, **changes):
    return {
        "name": "audited",
        "steps": 20,
        "batch_size": 20,
        "eval_every": 100,
        "log_every": 100,
        "data": {"name": "npz", "path": str(folder / f"{data}.npz"), "val": 20},
        "backbone": TOY,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "sink": [],
        **changes,
    }


@pytest.fixture
def run_file(worlds, tmp_path):
    """The path of a run file; keyword arguments change it."""

    def written(data, source, **changes):
        weights = {"name": "npz", "path": str(worlds / f"{source}.npz")}
        run = table(worlds, data, weights=weights, **changes)
        (tmp_path / "run.toml").write_text(tomli_w.dumps(run))
        return tmp_path / "run.toml"

    return written


def test_a_source_that_helps(run_file, tmp_path):
    found = audit(run_file("few", "good"), seeds=3, rates=1, out=tmp_path / "out")
    assert found["verdict"] == "helps"
    assert "The transfer helps by" in found["text"]
    (setting,) = found["settings"]
    assert setting["gain"] > setting["half"] > 0


def test_a_source_that_hurts(run_file, tmp_path):
    path = run_file("few", "dead", steps=80)
    found = audit(path, seeds=3, rates=1, out=tmp_path / "out")
    assert found["verdict"] == "hurts"
    assert "negative transfer" in found["text"]
    assert "tlx rank" in found["advice"][0]


def test_too_little_to_tell(run_file, tmp_path):
    found = audit(run_file("tiny", "good"), seeds=3, rates=1, out=tmp_path / "out")
    assert found["verdict"] == "no evidence"
    assert "There is no evidence either way" in found["text"]


def test_the_interval_is_that_of_what_the_runs_left(run_file, worlds, tmp_path):
    """Right and wrong of every seed on the same examples, in the order of the seeds."""
    out = tmp_path / "out"
    (setting,) = audit(run_file("tiny", "good"), seeds=2, rates=1, out=out)["settings"]
    for row in setting["arms"]:
        for number, value in enumerate(row["values"]):
            with np.load(out / row["arm"] / f"seed-{number}" / "answers.npz") as found:
                assert np.mean(found["predicted"] == found["label"]) == pytest.approx(value)
                assert sorted(found["index"]) == list(range(5))
    finetune = setting["arms"][2]
    assert finetune["gain"] == pytest.approx(finetune["test"] - setting["arms"][0]["test"])


def test_every_arm_has_the_same_budget_and_the_curve_says_where_scratch_catches_up(
    run_file, tmp_path, capsys, monkeypatch
):
    path = run_file(
        "few", "good", steps=15, sink=["html"], divergence=[{"name": "l2_sp", "weight": 0.01}]
    )
    out = tmp_path / "out"
    words = ["--seeds", "2", "--rates", "2", "--labels", "all,2", "--out", str(out)]
    assert cli.main(["audit", str(path), *words]) == 0
    said = capsys.readouterr().out
    found = json.loads((out / "result.json").read_text())
    assert [setting["labels"] for setting in found["settings"]] == [2, "all"]
    assert [setting["examples"]["train"] for setting in found["settings"]] == [8, 40]
    for setting in found["settings"]:
        assert [row["arm"] for row in setting["arms"]] == [
            "scratch", "feature_transfer", "finetune", "finetune-l2_sp",
        ]  # fmt: skip
        trained = [row for row in setting["arms"] if not row.get("solved")]
        assert {tuple(row["tried"]) for row in trained} == {(0.01, 0.00316)}
        assert [row["arm"] for row in setting["arms"] if row.get("solved")] == ["feature_transfer"]
        assert {len(row["values"]) for row in setting["arms"]} == {2}
        splits = {
            path.read_text()
            for path in (out / f"labels-{setting['labels']}").glob("*/seed-*/split.csv")
        }
        assert len(splits) == 1
    assert "With 2 labels a class:" in found["text"]
    assert "scratch" in found["text"].lower()
    assert found["text"] in said.replace("\n              ", " ")
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "labels of each class" in page
    assert "labels-2/finetune/seed-0/report.html" in page
    assert not list(out.glob("**/checkpoints"))

    def trained(*_, **__):
        raise AssertionError("It was finished.")

    monkeypatch.setattr("tlx.studies.auditing.run_one", trained)
    assert cli.main(["audit", str(path), *words, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["audit", str(path), *words, "--resume", "--seeds", "3"]) == 2
    assert "of an audit with other numbers" in capsys.readouterr().err


def test_an_interrupted_audit_trains_only_what_is_missing(run_file, tmp_path, monkeypatch):
    from tlx.studies import auditing as audits

    path, trained, one = run_file("tiny", "good", steps=4), [], audits.run_one

    def watched(config, out, *rest, **named):
        if len(trained) == 3:
            raise KeyboardInterrupt
        if not (out / "result.json").exists():
            trained.append(out.name)
        return one(config, out, *rest, **named)

    monkeypatch.setattr(audits, "run_one", watched)
    with pytest.raises(KeyboardInterrupt):
        audit(path, seeds=2, rates=1, out=tmp_path / "out")
    trained[:] = ["again"] * 4
    found = audit(path, seeds=2, rates=1, out=tmp_path / "out", resume=True)
    assert trained[4:] == ["seed-1", "seed-0", "seed-1"]
    assert found["verdict"] == "no evidence"


@pytest.mark.slow
def test_arms_beside_one_that_fails_are_trained(run_file, tmp_path, monkeypatch):
    from tlx.studies import auditing as audits

    path, one, out = run_file("tiny", "good", steps=4), audits.run_one, tmp_path / "out"

    def failing(config, to, *rest, **named):
        if to.parent.name == "feature_transfer":
            raise DataError("There is no such thing.")
        return one(config, to, *rest, **named)

    monkeypatch.setattr(audits, "run_one", failing)
    with pytest.raises(StudyError, match=r"(?s)1 of 3 arms failed:\n  feature_transfer: There is"):
        audit(path, seeds=2, rates=1, out=out)
    found = json.loads((out / "result.json").read_text())
    assert found["failed"] == {"feature_transfer": "There is no such thing."}
    first = [row["arm"] for row in found["settings"][0]["arms"]]
    assert first == ["scratch", "finetune"]
    monkeypatch.setattr(audits, "run_one", one)
    again = audit(path, seeds=2, rates=1, out=out, resume=True)
    assert "failed" not in again
    rows = {row["arm"]: row["values"] for row in again["settings"][0]["arms"]}
    assert list(rows) == ["scratch", "feature_transfer", "finetune"]
    kept = {row["arm"]: row["values"] for row in found["settings"][0]["arms"]}
    assert kept == {name: rows[name] for name in kept}


@pytest.mark.parametrize("own_test", [True, False])
def test_with_resplit_each_seed_draws_its_labels_and_where_there_is_no_test_split_that_too(
    run_file, worlds, tmp_path, own_test
):
    path, out = run_file("few", "good", steps=4), tmp_path / "out"
    run = tomllib.loads(path.read_text())
    run["data"]["shots"] = 2
    if not own_test:
        with np.load(worlds / "few.npz") as file:
            np.savez(tmp_path / "one.npz", x_train=file["x_train"], y_train=file["y_train"])
        run["data"] |= {"path": str(tmp_path / "one.npz"), "test": 20}
    path.write_text(tomli_w.dumps(run))
    found = audit(path, seeds=2, rates=1, resplit=True, out=out)
    splits = [(out / "finetune" / f"seed-{n}" / "split.csv").read_text() for n in (0, 1)]
    assert splits[0] != splits[1]
    assert found["settings"][0]["crossed"] is own_test
    assert ("the same 120 test examples" in found["text"]) is own_test


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"weights": "none"}, {}, "no transfer to audit"),
        ({"variant": [{"name": "a"}, {"name": "b"}]}, {}, "makes its own"),
        ({"head": "none", "strategy": "masked"}, {}, "nothing to test"),
        ({}, {"seeds": 1}, "at least 2"),
        ({}, {"rates": 0}, "at least 1"),
        ({}, {"labels": (5, 5)}, "twice"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_anything_is_written(
    run_file, tmp_path, changes, options, words
):
    path = run_file("tiny", "good")
    path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **changes}))
    with pytest.raises(ConfigError, match=words):
        audit(path, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
