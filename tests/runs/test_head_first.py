"""The head is solved for, and everything goes on from it only where that is better."""

import json

import numpy as np
import pytest

import tlx
from tlx.commands.show import lines, show
from tlx.config import parse
from tlx.planning.plan import Planned
from tlx.protocols import Phase
from tlx.reporting.console import Console
from tlx.reporting.pace import FEW, Pace
from tlx.reporting.reached import followed
from tlx.training.best_step import ahead
from tlx.types import Event

HEAD_FIRST = {"name": "probe_then_finetune", "solver": "newton"}


def test_a_solved_head_is_outdone_by_a_lower_loss_alone():
    """Ten pictures: two more right by chance, at a worse loss, is not better."""
    assert ahead("max", 0.8, 0.66, 0.6, 0.59)
    assert not ahead("max", 0.8, 0.66, 0.6, 0.59, of_solved=True)
    assert ahead("max", 0.8, 0.5, 0.6, 0.59, of_solved=True)
    assert not ahead("max", 0.5, 0.5, 0.6, 0.59, of_solved=True)
    assert not ahead("max", 0.8, np.nan, 0.6, 0.59, of_solved=True)


def phase_of(name):
    return Planned(Phase(name=name, steps=1, group=str, forward=None), None, None, None, 0)


def test_the_best_of_each_phase_is_remembered():
    found = {}
    for phase, value, loss, step in [("a", 0.5, 1, 1), ("b", 0.4, 1, 2), ("b", 0.6, 2, 3)]:
        found = followed(found, phase_of(phase), "max", value, loss, step)
    found = followed(found, phase_of("b"), "max", 0.6, 3, 4)
    assert found == {
        "a": {"value": 0.5, "loss": 1.0, "step": 1},
        "b": {"value": 0.6, "loss": 2.0, "step": 3},
    }
    assert json.loads(json.dumps(found)) == found, "a checkpoint holds it"


@pytest.mark.parametrize(("rate", "kept"), [(1.0, "probe"), (0.01, "finetune")])
def test_a_run_says_what_each_brought_and_keeps_the_better(tiny, tmp_path, capsys, rate, kept):
    """At a rate that ruins the network the head is what is left."""
    way = {**HEAD_FIRST, "backbone_lr": 1.0, "head_lr": 1.0, "path": [10.0]}
    table = tiny(strategy=way, optimizer={"name": "adam", "learning_rate": rate}, steps=60)
    table = {**table, "patience": 20}
    found = tlx.run(table, out=tmp_path / "run")
    assert found["best_phase"] == kept
    out = capsys.readouterr().out
    called = {"probe": "the head alone", "finetune": "finetune"}
    assert f"kept: {called[kept]}." in out
    assert "On validation (accuracy): the head alone " in out
    assert "  head solved   val accuracy" in out
    assert "at most 59 steps, until 20 evaluations in a row bring nothing better" in out
    best = found["reached"][kept]
    assert found["val"]["accuracy"] == pytest.approx(best["value"], abs=1e-6)
    assert found["best_step"] == best["step"]


def test_how_long_it_takes_is_said_once_and_only_where_it_takes_long(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("tlx.reporting.pace.time.perf_counter", lambda: clock[0])

    def said(seconds, stop):
        pace, found = Pace("finetune", 100, stop), []
        for number in range(101, 101 + 4 * FEW):
            clock[0] += 50.0 if number == 101 else seconds  # the first call is not like the rest
            found.append(pace.after(number, np.zeros(())))
        return [text for text in found if text]

    (text,) = said(0.5, 1000)
    assert text.startswith(f"About 7 min 28 s to go for {900 - 1 - FEW} more steps of finetune")
    assert said(0.01, 1000) == []


def test_what_variants_share_is_said_once(capsys):
    console = Console()

    def variant(number, warnings):
        about = {"name": "n", "number": number, "of": 2}
        start = {
            "out": "o", "device": "cpu", "name": "r", "trainable": 1, "total": 1, "phases": [],
            "data": {"name": "d", "classes": (), "sizes": {}}, "divergences": [],
            "backbone": {"name": "b", "parameters": 1}, "variant": about,
        }  # fmt: skip
        console.emit(Event("start", 0, start))
        for text in warnings:
            console.emit(Event("warning", 0, {"text": text}))
        console.emit(Event("note", 5, {"text": "Stopped early."}))

    variant(1, ["Pictures are small."])
    variant(2, ["Pictures are small.", "Other pictures."])
    out = capsys.readouterr().out
    assert out.count("Pictures are small.") == 1
    assert out.count("Other pictures.") == 1
    assert out.count("Stopped early.") == 2, "what happened in each is said of each"


def test_show_measures_a_few_steps_where_it_is_asked(tiny):
    config = parse(tiny(strategy={"name": "probe_then_finetune"}, steps=10))
    assert not any(line.lstrip().startswith("time ") for line in lines(show(config)))
    found = show(config, timed=True)
    (run,) = found["runs"].values()
    assert [phase["seconds_a_step"] > 0 for phase in run["phases"]] == [True, True]
    told = [line for line in lines(found) if line.lstrip().startswith("time ")]
    assert len(told) == 2
    assert "probe: about " in told[0]
