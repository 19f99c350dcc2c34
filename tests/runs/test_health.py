"""Runs without labels: what is measured while they run, and that a collapsed one is stopped."""

import json

import numpy as np
import pytest

import tlx
from tlx.errors import CollapsedError

STRATEGY = '''
"""A strategy whose features do what its loss says: {what}."""
from dataclasses import dataclass
import jax.numpy as jnp
from tlx.protocols import Phase
from tlx.types import Forward, Variables


@dataclass(frozen=True)
class Pulled:
    keeps = "last"

    def trivial(self, batch_size):
        return 0.0

    def init(self, rng, model, batch):
        return Variables({{}}, {{}})

    def phases(self, model, steps):
        return (Phase(name="pulled", steps=steps, group=lambda p: p.split("/")[0],
                      forward=self.forward, norm="frozen"),)

    def forward(self, model, variables, batch, constants, *, rng, mode, progress):
        features, body = model.features(variables, batch, rng=rng, mode=mode)
        apart = features["pooled"] - features["pooled"].mean(0)
        loss = {sign} jnp.square(apart).sum(-1)
        state = {{**variables.state, "backbone": body}}
        return Forward(loss, batch.inputs, features, None, state)
'''


def pulled(folder, sign, what):
    path = folder / "pulled.py"
    path.write_text(STRATEGY.format(sign=sign, what=what))
    return f"{path}:Pulled"


def evals(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "eval"]


def test_features_are_watched_from_before_the_first_step(tiny, tmp_path):
    run = tmp_path / "run"
    result = tlx.run(tiny(head="none", strategy={"name": "masked", "patch": 2}), out=run)
    measured = evals(run)
    assert measured[0]["step"] == 0
    for line in measured:
        metrics = line["metrics"]
        assert 0 <= metrics["feature_std"] <= 1.5
        assert metrics["rankme"] >= 1
        assert 0 <= metrics["knn_accuracy"] <= 1
        assert 0 <= metrics["probe_accuracy"] <= 1
    assert result["steps"] == 12


def test_a_collapsed_run_is_stopped_with_the_sign_and_its_state(tiny, tmp_path):
    strategy = pulled(tmp_path, "", "all alike")
    table = tiny(
        head="none", strategy=strategy, steps=400, eval_every=2,
        optimizer={"name": "adam", "learning_rate": 0.1},
    )  # fmt: skip
    with pytest.raises(CollapsedError) as stopped:
        tlx.run(table, out=tmp_path / "run")
    said = str(stopped.value)
    assert "nearly the same for every picture" in said
    assert "Their deviation is" in said
    assert "RankMe" in said
    assert "vicreg" in said
    last = evals(tmp_path / "run")[-1]["metrics"]
    first = evals(tmp_path / "run")[0]["metrics"]
    assert last["feature_std"] < 0.1 * first["feature_std"]
    assert list((tmp_path / "run/checkpoints").iterdir())
    # Told to, it goes on.
    going = {**table, "health": {"stop": False}, "steps": 20}
    assert tlx.run(going, out=tmp_path / "on")["steps"] == 20


def test_features_that_are_pushed_apart_are_not(tiny, tmp_path):
    strategy = pulled(tmp_path, "-", "all apart")
    table = tiny(head="none", strategy=strategy, steps=60)
    assert tlx.run(table, out=tmp_path / "run")["best_step"] == 60  # it keeps the last step


def test_watching_changes_no_number_of_the_training(tiny, tmp_path):
    strategy = {"name": "masked", "patch": 2}
    one = tlx.run(tiny(head="none", strategy=strategy), out=tmp_path / "one")
    table = tiny(head="none", strategy=strategy, health={"examples": 0})
    other = tlx.run(table, out=tmp_path / "other")
    assert one["test"] == other["test"]
    assert "rankme" not in evals(tmp_path / "other")[-1]["metrics"]


def test_the_report_is_given_what_there_is_to_see(tiny, tmp_path):
    heard = tmp_path / "heard.py"
    heard.write_text(
        "import numpy as np\n"
        "class Heard:\n"
        "    def __init__(self, path: str):\n"
        "        self.path = path\n"
        "    def emit(self, event):\n"
        "        if event.kind == 'finish':\n"
        "            near, seen = event.data['neighbours'], event.data['features']\n"
        "            np.savez(self.path, one=near['pictures'], nearest=near['nearest'],\n"
        "                     before=seen['before'], after=seen['after'], labels=seen['labels'])\n"
        "    def close(self):\n"
        "        pass\n"
    )
    sink = {"name": f"{heard}:Heard", "path": str(tmp_path / "seen.npz")}
    strategy = {"name": "masked", "patch": 2}
    tlx.run(tiny(head="none", strategy=strategy, sink=[sink]), out=tmp_path / "run")
    seen = np.load(tmp_path / "seen.npz")
    assert seen["one"].dtype == np.uint8
    assert seen["nearest"].shape[:2] == (6, 6)
    assert seen["before"].shape == seen["after"].shape == (21, seen["after"].shape[1])
    assert not np.array_equal(seen["before"], seen["after"])
    assert len(seen["labels"]) == 21
