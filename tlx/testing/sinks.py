"""What every sink must do: hear a whole run out, close twice, and leave everything as it is.

The events are those that `tlx.sinks` lists, with their optional data once present and once not.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.protocols import Sink
from tlx.sinks import KINDS
from tlx.testing.claims import claim, fail
from tlx.types import Event

CLASSES = ("ant", "bee <b>", "cat")
FIRST = {"source": "one", "value": 0.8, "low": 0.7, "high": 0.9, "halves": 50, "rank": 1}
SECOND = {"source": "two <b>", "value": 0.5, "low": None, "high": None, "halves": 0, "rank": 2}
EVEN = {"behind": 0.0, "behind_half": None, "apart": None, "seconds": 0.1}
RANKED = {
    "target": "sample",
    "pictures": 12,
    "classes": 3,
    "resamples": 50,
    "by": "probe",
    "sources": [
        {
            "source": name,
            "parameters": 1000,
            "accuracy": None,
            "classes": None,
            "features": 4,
            "seconds": 1.0,
        }
        for name in ("one", "two <b>")
    ],
    "scores": [
        {
            "score": "probe",
            "rows": [
                FIRST | EVEN,
                SECOND | EVEN | {"behind": 0.3, "behind_half": 0.1, "apart": True},
            ],
            "unavailable": [],
        },
        {"score": "leep", "rows": [], "unavailable": [{"source": "one", "why": "No head."}]},
    ],
    "similarity": [
        {
            "measure": "cka",
            "names": ["one", "two <b>"],
            "matrix": [[1.0, 0.2], [0.2, 1.0]],
            "text": "1 is alike.",
        }
    ],
    "text": "one is ahead.",
}
"""What a ranking tells."""


@final
class Subject:
    """A sink under test. Each check opens a new one over a folder of its own."""

    def __init__(self, make: Callable[[], Sink], folder: Path):
        self.make = make
        self.folder = folder

    def run(
        self, name: str, events: Callable[[Path], Iterator[Event]], strict: bool = True
    ) -> Path:
        """Tell a new sink everything, then close it. Returns the run's folder. What it raises
        fails the check, if `strict`."""
        out = self.folder / name
        out.mkdir(parents=True, exist_ok=True)
        lines = [
            {"kind": e.kind, "step": e.step, **e.data}
            for e in whole(out)
            if e.kind in ("train", "eval")
        ]
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        sink = self.make()
        for event in events(out):
            try:
                sink.emit(event)
            except Exception as e:
                if strict:
                    fail(f"`emit` must take the event {event.kind!r}; it raised {e!r}.")
        sink.close()
        return out

    @cached_property
    def heard(self) -> Path:
        """The folder of a run that was heard out."""
        return self.run("heard", whole, strict=False)


def check_whole_run(subject: Subject) -> None:
    """It hears every kind of event of a run, a study, a sweep and a ranking."""
    kinds = {event.kind for event in whole(subject.folder)}
    assert kinds == set(KINDS), f"the kit tells {sorted(kinds)}, a run {sorted(KINDS)}"
    out = subject.run("whole", whole)
    claim(out.is_dir(), "The run's folder is gone.")


def check_bare_run(subject: Subject) -> None:
    """It hears a run without head, weights and divergence, in which a number is not finite."""
    subject.run("bare", bare)


def check_resumed_run(subject: Subject) -> None:
    """It hears a run that is interrupted, and the same run resumed by another process."""
    events = [
        event
        for event in whole(subject.folder / "resumed")
        if event.kind not in ("study", "sweep", "rank", "audit")
    ]
    before = [event for event in events if event.step <= 2]
    after = [event for event in events if event.step > 2]
    subject.run("resumed", lambda out: iter(before))
    subject.run("resumed", lambda out: iter([events[0], *after]))


def check_closes_twice(subject: Subject) -> None:
    """Closing is harmless before the first event and after the last close."""
    sink = subject.make()
    for number in (1, 2):
        try:
            sink.close()
        except Exception as e:
            fail(f"`close` must be harmless when nothing is open; call {number} raised {e!r}.")


def check_changes_no_event(subject: Subject) -> None:
    """An event is for all sinks: nobody changes its data."""
    told: list[tuple[Event, Event]] = []

    def events(out: Path) -> Iterator[Event]:
        for event in whole(out):
            told.append((event, copy.deepcopy(event)))
            yield event

    subject.run("unchanged", events, strict=False)
    for event, before in told:
        claim(
            repr(event) == repr(before), f"The sink changed the data of the event {event.kind!r}."
        )


def check_leaves_files_alone(subject: Subject) -> None:
    """Files of the run that are not its own stay as they are."""
    out = subject.folder / "files"
    result = out / "result.json"
    out.mkdir(exist_ok=True)
    result.write_text("{}")
    subject.run("files", whole, strict=False)
    claim(result.exists() and result.read_text() == "{}", "The sink changed result.json.")
    lines = (subject.heard / "metrics.jsonl").read_text()
    claim(lines == (out / "metrics.jsonl").read_text(), "The sink changed metrics.jsonl.")


def _start(out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "device": "cpu",
        "name": "sample <run>",
        "config": {"name": "sample", "data": {"name": "digits"}, "epochs": 2.0},
        "data": {"name": "digits", "classes": CLASSES, "sizes": {"train": 8, "val": 4, "test": 4}},
        "backbone": {"name": "toy", "parameters": 1000},
        "trainable": 10,
        "total": 1010,
        "phases": [
            {"name": "probe", "steps": 4, "trainable": 10, "norm": "frozen", "frozen_stages": 2}
        ],
        "divergences": [],
    }


def whole(out: Path) -> Iterator[Event]:
    """A run with everything that an event can hold, a study around it and a sweep."""
    weights = {
        "name": "file",
        "loaded": 9,
        "dialect": "timm",
        "changed": [("params/backbone/stem/kernel", "summed over its 3 input channels")],
        "initialised": [("params/head/kernel", "not in the file")],
        "notes": ["3 leaves converted from float16 to float32"],
        "skipped": [("fc.weight", "another shape")],
        "sha256": "0" * 64,
    }
    divergences = [{"name": "l2_sp", "weight": 0.1, "words": ["params", "source_params"]}]
    extra = {
        "weights": weights,
        "divergences": divergences,
        "selection": ("accuracy", "max"),
        "variant": {"name": "one", "number": 1, "of": 2},
    }
    yield Event("start", 0, {**_start(out), **extra})
    yield Event("note", 0, {"text": "A note."})
    yield Event("warning", 0, {"text": "A <warning>."})
    phase = {"name": "probe", "steps": 4, "trainable": 10, "first_step": 0}
    yield Event("phase", 0, phase)
    yield Event("compile", 0, {"what": "the step", "seconds": None})
    yield Event("compile", 0, {"what": "the step", "seconds": 1.5})
    for step in (1, 2, 3, 4):
        yield Event(
            "train",
            step,
            {
                "loss": 1.0 / step,
                "task": 0.9 / step,
                "learning_rate": 0.1,
                "divergence/l2_sp": 1.0,
                "divergence/l2_sp/weighted": 0.1,
                "accuracy": 0.2 * step,
                "images_per_second": 100.0,
            },
        )
        if step % 2 == 0:
            metrics = {"accuracy": 0.2 * step, "loss": 1.0 / step}
            data = {"split": "val", "metrics": metrics, "best": True, "epoch": step / 2}
            yield Event("eval", step, data)
    result = {
        "test": {"accuracy": 0.75, "loss": 0.5},
        "val": {"accuracy": 0.8, "loss": 0.4},
        "trainable_parameters": 10,
        "seconds": 2.0,
        "compile_seconds": 1.5,
        "seed": 0,
        "versions": {"jax": "0"},
    }
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    samples = [
        {"image": picture, "label": 0, "predicted": 0, "probability": 0.9},
        {"image": picture, "label": 1, "predicted": 2},
    ]
    finish = {
        "result": result,
        "curves": str(out / "metrics.jsonl"),
        "next": ["Predict."],
        "confusion": np.asarray([[2, 0, 0], [0, 1, 1], [0, 0, 0]]),
        "samples": samples,
    }
    yield Event("finish", 4, finish)
    rows = [
        {"variant": "one", "test": 0.75, "val": 0.8, "low": 0.5, "high": 0.9},
        {"variant": "two", "test": 0.5},
    ]
    study = {
        "out": str(out),
        "name": "study",
        "rows": rows,
        "metric": "accuracy",
        "variants": {"one": result, "two": result},
        "text": "one is better.",
        "next": ["Look."],
    }
    yield Event("study", 4, study)
    points = [
        {"point": {"seed": 1}, "mean": 0.75, "half": 0.1, "values": [0.7, 0.8]},
        {"point": {"seed": 2}, "mean": None, "half": None, "values": [None, 0.8]},
    ]
    sweep = {
        "out": str(out),
        "name": "sweep",
        "metric": "accuracy",
        "direction": "max",
        "axes": [{"key": "seed", "values": [1, 2], "ends": None, "log": False}],
        "seeds": [0, 1],
        "points": points,
        "chosen": {"seed": 1},
        "test": {"accuracy": 0.7, "half": 0.1, "values": [0.65, 0.75]},
        "next": ["Look."],
    }
    yield Event("sweep", 4, sweep)
    yield Event("rank", 4, {"out": str(out), **RANKED})
    arm = {"rate": 0.1, "tried": [0.1, 0.3], "val": 0.8, "test": 0.75, "half": None}
    arm |= {"values": [0.75], "gain": None, "gain_half": None, "trained_parameters": 10}
    arms = [{"arm": "scratch", **arm, "seconds": 2.0}]
    arms += [{"arm": "finetune", **arm, "half": 0.1, "gain": 0.0, "seconds": 2.0}]
    setting = {"verdict": "no evidence", "best": "finetune", "gain": 0.0, "half": None, "p": 1.0}
    setting |= {"metric": "accuracy", "arms": arms}
    audit = {
        "out": str(out),
        "name": "audit",
        "metric": "accuracy",
        "direction": "max",
        "verdict": "no evidence",
        "text": "There is no evidence either way.",
        "advice": ["More seeds would decide it."],
        "settings": [{"labels": 10, **setting}, {"labels": "all", **setting}],
        "seeds": 1,
        "resplit": False,
        "next": ["Look."],
    }
    yield Event("audit", 4, audit)


def bare(out: Path) -> Iterator[Event]:
    """A run with nothing that may be absent."""
    yield Event("start", 0, _start(out))
    yield Event("phase", 0, {"name": "masked", "steps": 1, "trainable": 10, "first_step": 0})
    train = {"loss": math.nan, "task": 1.0, "learning_rate": 0.1, "images_per_second": 1.0}
    yield Event("train", 1, train)
    data = {"split": "val", "metrics": {"loss": math.inf}, "best": False, "epoch": 1.0}
    yield Event("eval", 1, data)
    result = {"test": {"loss": 1.0}, "trainable_parameters": 10, "seconds": 2.0, "seed": 0}
    finish = {"result": result, "curves": str(out / "metrics.jsonl"), "next": []}
    yield Event("finish", 1, finish)
