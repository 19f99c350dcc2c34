"""Stages: pre-training and transfer as one run file and one command."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tlx
from tlx import cli, loop
from tlx import config as configs
from tlx.assemble import assemble
from tlx.errors import CheckpointError, ConfigError, DataError, Interrupted, WeightsError
from tlx.study import evaluate
from tlx.testing import toys
from tlx.trees import flat

TEACHER = {"name": "pretrain", "steps": 6}
PROBE = {"name": "transfer", "strategy": "feature_transfer", "steps": 3}
WITHOUT_LABELS = {
    "head": "none", "strategy": {"name": "masked", "patch": 2}, "steps": 2,
    "health": {"examples": 0},
}  # fmt: skip


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def backbone(out):
    return {k: v.tobytes() for k, v in weights(out).items() if "/backbone/" in k}


def bytes_of(out):
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def uncut(pictures, tmp_path):
    """The same pictures where the test split has to be cut from training."""
    held = np.load(pictures)
    path = tmp_path / "uncut.npz"
    np.savez(path, **{name: held[name] for name in ("x_train", "y_train", "class_names")})
    return {"name": "npz", "path": str(path)}


def test_each_stage_starts_from_the_backbone_of_the_one_before(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    table = tiny(stage=[TEACHER, PROBE, {**PROBE, "name": "more", "steps": 1}])
    result = tlx.run(table, out=out)
    assert list(result["stages"]) == ["pretrain", "transfer", "more"]
    assert [r["steps"] for r in result["stages"].values()] == [6, 3, 1]
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert capsys.readouterr().out.splitlines()[-1] == f"  note        {result['text']}"
    assert result["text"].startswith("more ends at ")
    assert "after pretrain, transfer. One seed" in result["text"]
    # Probes leave the backbone as it is, so it is the first stage's, bit by bit, to the end.
    assert backbone(out / "pretrain") == backbone(out / "transfer") == backbone(out / "more")
    heads = [weights(out / name)["params/head/kernel"] for name in result["stages"]]
    assert len({head.tobytes() for head in heads}) == 3
    # Every one is a whole run.
    for name, found in result["stages"].items():
        assert configs.read(out / name).name == f"tiny-{name}"
        assert {"checkpoints", "metrics.jsonl", "result.json"} <= {
            p.name for p in (out / name).iterdir()
        }
        assert found["weights"] == {"pretrain": None, "transfer": f"run:{out / 'pretrain'}"}.get(
            name, f"run:{out / 'transfer'}"
        )


def test_pretraining_without_labels_and_the_commands_on_what_it_left(
    tiny, tmp_path, pictures, capsys
):
    file, out = tmp_path / "two.toml", tmp_path / "out"
    last = {"name": "transfer", "data": {"shots": 10}, "steps": 2}
    stages = [{"name": "pretrain", **WITHOUT_LABELS}, last]
    data = {"name": "npz", "path": str(pictures)}
    whole = configs.parse(tiny(data=data, stage=stages, out=str(out)))
    file.write_text(configs.dumps(whole))
    assert cli.main(["show", str(file), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert list(runs) == ["pretrain", "transfer"]
    assert runs["transfer"]["weights"]["name"] == f"run:{out / 'pretrain'}"
    assert not out.exists()

    shorter = ["--set", "stage.0.steps=1", "stage.transfer.data.shots=5"]
    assert cli.main(["eval", str(file)]) == 2
    assert "has not been run" in capsys.readouterr().err
    assert cli.main(["run", str(file), *shorter]) == 0
    result = json.loads((out / "result.json").read_text())["stages"]
    assert result["pretrain"]["steps"] == 1
    assert "accuracy" not in result["pretrain"]["test"]
    assert result["transfer"]["examples"]["train"] == 15

    capsys.readouterr()
    for what in ([str(out)], [str(file), *shorter]):  # a stage without a head has nothing to test
        assert cli.main(["eval", *what, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert list(found) == ["transfer"]
        assert found["transfer"]["test"]["accuracy"] == result["transfer"]["test"]["accuracy"]
    assert tlx.load(out / "transfer").predict(np.zeros((2, 8, 8, 3), np.uint8))
    assert cli.main(["predict", str(out), "x.png"]) == 2
    assert "several runs: name one of pretrain, transfer" in capsys.readouterr().err


def test_variants_are_those_of_the_last_stage(tiny, tmp_path):
    table = tiny(
        stage=[TEACHER, {"name": "transfer", "steps": 4}],
        variant=[
            {"name": "probe", "strategy": "feature_transfer"},
            {"name": "random", "weights": "none"},
        ],
        sink=["html"],
    )
    out = tmp_path / "run"
    result = tlx.run(table, out=out)
    last = result["stages"]["transfer"]
    assert list(last["variants"]) == ["probe", "random"]
    assert result["text"] == last["text"]
    assert "probe " in last["text"]
    assert "random " in last["text"]
    assert backbone(out / "transfer/probe") == backbone(out / "pretrain")
    assert last["variants"]["random"]["weights"] is None
    assert (out / "transfer/report.html").exists()
    assert (out / "pretrain/report.html").exists()
    assert list(evaluate(out)) == ["pretrain", "transfer/probe", "transfer/random"]


def test_an_interrupted_stage_goes_on_where_it_was(tiny, tmp_path, monkeypatch):
    table = tiny(stage=[TEACHER, {"name": "transfer"}])
    whole = tlx.run(table, out=tmp_path / "whole")
    out, real = tmp_path / "stopped", loop.interruptible
    for steps, there in ((4, []), (5, ["pretrain"])):
        count = iter(range(1, 1_000))

        class Stopping:
            def __enter__(self, count=count, steps=steps):
                return lambda: next(count) >= steps

            def __exit__(self, *_):
                return None

        monkeypatch.setattr(loop, "interruptible", Stopping)
        with pytest.raises(Interrupted, match="--resume"):
            tlx.run(table, out=out, resume=bool(there) or steps == 5)
        assert [p.parent.name for p in out.glob("*/result.json")] == there
    monkeypatch.setattr(loop, "interruptible", real)
    result = tlx.run(table, out=out, resume=True)
    for name in result["stages"]:
        assert bytes_of(out / name) == bytes_of(tmp_path / "whole" / name)
        assert result["stages"][name]["test"] == whole["stages"][name]["test"]
    assert tlx.run(table, out=out, resume=True)["stages"] == result["stages"]
    # A folder that was moved can be gone on with; another run file cannot.
    moved = out.rename(tmp_path / "moved")
    assert tlx.run(table, out=moved, resume=True)["stages"] == result["stages"]
    other = tiny(stage=[TEACHER, {"name": "transfer", "batch_size": 9}])
    with pytest.raises(CheckpointError, match=r"stage\.1\.batch_size.*or of pretrain"):
        tlx.run(other, out=moved, resume=True)
    longer = tiny(stage=[TEACHER, {"name": "transfer", "steps": 13}])
    found = tlx.run(longer, out=moved, resume=True)["stages"]
    assert [found[name]["steps"] for name in found] == [6, 13]


@pytest.mark.parametrize(
    ("last", "error", "sentence"),
    [
        (
            {"data": {"split_seed": 1}},
            ConfigError,
            r"\d+ of its 20 test pictures are trained on in",
        ),
        (
            {"data": {"test": 30}},
            ConfigError,
            r"cut the same data differently.*split_seed and test",
        ),
        ({"data": {"shots": 500}}, DataError, "stage 'transfer': The class 'red' has"),
        (
            {"backbone": {"width": 5}},
            WeightsError,
            r"stage 'transfer': The weights 'run:.*run/pretrain' do not fit the backbone",
        ),
    ],
)
def test_what_the_last_stage_cannot_do_is_said_before_the_first(
    tiny, tmp_path, uncut, last, error, sentence
):
    out = tmp_path / "run"
    table = tiny(data={**uncut, "test": 20}, stage=[TEACHER, {"name": "transfer", **last}])
    with pytest.raises(error, match=sentence):
        tlx.run(table, out=out)
    assert not out.exists()


def test_no_stage_trains_on_the_test_pictures_of_another(tiny, tmp_path, uncut):
    """Without labels or with ten a class: the test split is the same and nobody trains on it."""
    table = tiny(
        data={**uncut, "test": 20},
        stage=[{"name": "pretrain", **WITHOUT_LABELS}, {"name": "transfer", "data": {"shots": 8}}],
    )
    runs = [run for _, run in configs.stages(configs.parse(table), tmp_path)]
    first, last = (assemble(configs.parse({**configs.table(r), "weights": "none"})) for r in runs)
    np.testing.assert_array_equal(first.splits.test.indices, last.splits.test.indices)
    assert not set(first.splits.train.indices) & set(last.splits.test.indices)
    assert len(last.splits.train) == 24


def test_a_stage_may_keep_the_head_or_start_elsewhere(tiny, tmp_path):
    keep = {"name": "b", "strategy": "feature_transfer", "weights": {"head": "keep"}}
    keep["optimizer"] = {"name": "sgd", "learning_rate": 1e-30}
    table = tiny(stage=[{"name": "a"}, keep, {"name": "c", "weights": "none", "steps": 1}])
    result = tlx.run(table, out=tmp_path / "run")["stages"]
    assert result["b"]["test"] == pytest.approx(result["a"]["test"])
    assert result["c"]["weights"] is None


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_the_first_stage_goes_on_with_somebody_elses_checkpoint(tiny, tmp_path, ending):
    rng = np.random.default_rng(3)
    like = toys.ToyBackbone().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    theirs = {
        path.replace("/", "/backbone/", 1): rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        for path, leaf in flat(like).items()
    }
    file = tmp_path / f"theirs.{ending}"
    np.savez(file, **theirs) if ending == "npz" else save_file(theirs, file)
    table = tiny(
        weights={"name": f"{ending}:{file}"},
        stage=[{"name": "pretrain", **WITHOUT_LABELS}, {**PROBE, "steps": 1}],
    )
    (_, first), _ = configs.stages(configs.parse(table), tmp_path)
    began = flat(assemble(first).variables)
    for name, value in theirs.items():
        np.testing.assert_array_equal(began[name], value)
    result = tlx.run(table, out=tmp_path / "run")["stages"]
    assert result["pretrain"]["weights"] == f"{ending}:{file}"
    assert result["transfer"]["weights"] == f"run:{tmp_path / 'run' / 'pretrain'}"
