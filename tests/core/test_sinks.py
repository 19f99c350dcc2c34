"""Events, the fan-out, metrics.jsonl and the console, fed with a run that never was."""

import io
import json
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.errors import ContractError
from tlx.reporting.console import Console
from tlx.reporting.wording import comparison, duration, grouped, plain, shown
from tlx.sinks import KINDS, Jsonl, Sinks, read_jsonl
from tlx.types import Event


def start(out="runs/digits", **more):
    return {
        "out": str(out),
        "device": "cpu (2 cores)",
        "name": "digits",
        "config": {"name": "digits"},
        "data": {
            "name": "digits",
            "classes": tuple("0123456789"),
            "sizes": {"train": 1100, "val": 450, "test": 360},
            "notes": ["10 labels a class."],
        },
        "backbone": {"name": "resnet20", "parameters": 269722},
        "weights": {
            "name": "cifar10",
            "loaded": 97,
            "initialised": [
                ("params/head/kernel", "10 classes"),
                ("params/head/bias", "10 classes"),
            ],
            "skipped": [],
            "changed": [],
            "dialect": "",
            "notes": [],
        },
        "trainable": 650,
        "total": 270372,
        "phases": [
            {"name": "probe", "steps": 10, "trainable": 650, "norm": "frozen", "frozen_stages": 4},
            {"name": "all", "steps": 20, "trainable": 270372, "norm": "train", "frozen_stages": 0},
        ],
        "divergences": [{"name": "l2_sp", "weight": 0.01, "words": ("params", "source_params")}],
        "selection": ("accuracy", "max"),
        **more,
    }


def train(step):
    return Event(
        "train", step, {"loss": np.float32(1.5), "accuracy": 0.4, "images_per_second": 1240}
    )


def run(out="runs/digits", begin=0, **more):
    yield Event("start", 0, start(out, **more))
    for name, first, last in (("probe", 0, 10), ("all", 10, 30)):
        data = {"name": name, "steps": last - first, "trainable": 1, "first_step": first}
        yield Event("phase", first, data)
        yield Event("compile", first, {"what": "the step", "seconds": None})
        yield Event("compile", first, {"what": "the step", "seconds": 3.14})
        for step in range(max(first, begin) + 1, last + 1):
            yield train(step)
            if step % 10 == 0:
                metrics = {"loss": 0.3, "top5_accuracy": 1.0, "accuracy": step / 40}
                data = {"split": "val", "metrics": metrics, "best": step != 20, "epoch": step / 4}
                yield Event("eval", step, data)
    yield Event("warning", 30, {"text": "Careful with [bold]brackets[/bold]."})
    result = {"val": {"accuracy": 0.75}, "test": {"accuracy": 0.7, "loss": 0.4}, "seconds": 125.2}
    yield Event("finish", 30, {"result": result, "curves": "", "next": [f"tlx eval {out}"]})


def said(events, stream=None):
    stream = stream or io.StringIO()
    console = Console(stream)
    for event in events:
        console.emit(event)
    console.close()
    return stream.getvalue()


class Memory:
    def __init__(self):
        self.events, self.closed = [], 0

    def emit(self, event):
        self.events.append(event)

    def close(self):
        self.closed += 1


class Broken:
    def __init__(self, when=("train",)):
        self.when, self.told = when, 0

    def emit(self, event):
        self.told += 1
        if event.kind in self.when:
            raise OSError("disk full")

    def close(self):
        raise OSError("still full")


# --- the fan-out ---------------------------------------------------------------------------------


def test_a_failing_sink_is_reported_once_and_dropped():
    broken, memory = Broken(), Memory()
    sinks = Sinks((broken, memory))
    for event in run():
        sinks.emit(event)
    sinks.close()
    texts = [e.data["text"] for e in memory.events if e.kind == "warning"]
    assert [t for t in texts if "Broken" in t] == texts[:1]
    assert "disk full" in texts[0]
    assert len(memory.events) == len(list(run())) + 1
    assert broken.told < len(list(run()))
    assert memory.closed == 1


def test_sinks_that_fail_at_each_others_failure_do_not_end_the_run():
    memory = Memory()
    sinks = Sinks((Broken(), Broken(("warning",)), Broken(KINDS), memory))
    for event in run():
        sinks.emit(event)
    assert sinks.listeners == (memory,)
    assert len([e for e in memory.events if "Broken" in str(e.data.get("text"))]) == 3


def test_a_sink_that_cannot_close_does_not_keep_others_open():
    memory = Memory()
    Sinks((Broken(()), memory)).close()
    assert memory.closed == 1


def test_stopping_the_run_is_not_a_failure_of_a_sink():
    class Stopping(Memory):
        def emit(self, event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sinks((Stopping(),)).emit(train(1))


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(ContractError, match="Did you mean 'train'"):
        Sinks(()).emit(Event("trian", 0, {}))


# --- metrics.jsonl -------------------------------------------------------------------------------


def log(out, events):
    sink = Jsonl()
    for event in events:
        sink.emit(event)
    sink.close()
    return (out / "metrics.jsonl").read_text(encoding="utf-8")


def test_each_line_is_strict_json_with_plain_numbers(tmp_path):
    data = {"loss": jnp.float32(0.5), "task": np.float64("nan"), "accuracy": float("inf")}
    text = log(tmp_path, [Event("start", 0, start(tmp_path)), Event("train", np.int64(3), data)])

    def refuse(word):
        raise AssertionError(word)

    line = json.loads(text, parse_constant=refuse)
    assert line == {"kind": "train", "step": 3, "loss": 0.5, "task": "nan", "accuracy": "inf"}
    assert np.isnan(float(line["task"]))


def test_lines_are_there_before_the_sink_is_closed(tmp_path):
    sink = Jsonl()
    sink.emit(Event("start", 0, start(tmp_path)))
    sink.emit(train(1))
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == 1
    sink.close()


def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path):
    whole = log(tmp_path, run(tmp_path))
    events = list(run(tmp_path))
    log(tmp_path, [e for e in events if e.step <= 17])  # stopped at 17, saved at 10
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as f:
        f.write('{"kind": "tra')  # in the middle of a line
    assert log(tmp_path, run(tmp_path, begin=10)) == whole


def test_a_fresh_run_does_not_keep_an_old_file(tmp_path):
    assert log(tmp_path, run(tmp_path)) == log(tmp_path, run(tmp_path))


# --- the console ---------------------------------------------------------------------------------


def test_plain_output_has_one_line_per_evaluation_and_no_control_codes():
    text = said(run())
    assert "\x1b" not in text
    assert "\r" not in text
    assert len([x for x in text.splitlines() if "val accuracy" in x]) == 3
    assert all(line == line.rstrip() for line in text.splitlines())
    assert len(text.splitlines()) < 40


def test_a_run_without_labels_is_followed_by_its_neighbours():
    metrics = {"feature_std": 0.3, "rankme": 21.5, "knn_accuracy": 0.512, "probe_accuracy": 0.6}
    data = {"split": "val", "best": True, "epoch": 1.0}
    events = [
        Event("start", 0, start(selection=("loss", "min"))),
        Event("eval", 0, {**data, "metrics": metrics}),
        Event("eval", 7, {**data, "metrics": {**metrics, "loss": 4.25}}),
    ]
    first, then = [line for line in said(events).splitlines() if "epoch" in line]
    assert "val knn accuracy 51.2 %   best   val rankme 21.5" in first
    assert then.index("val loss 4.25") < then.index("val knn") < then.index("val rankme")
    assert "feature" not in then


def test_it_says_where_it_writes_first_and_last():
    lines = said(run("some/very long/" + "folder" * 30)).splitlines()
    assert "some/very long/" + "folder" * 30 in lines[0]
    assert lines[-1].endswith("some/very long/" + "folder" * 30)


def test_it_says_what_a_person_wants_to_know():
    text = said(run())
    for words in (
        "cpu (2 cores)",
        "10 classes (0, 1, 2, 3, 4 and 5 more) · 1,100 train / 450 val / 360 test",
        "10 labels a class.",
        "resnet20, 269,722 parameters",
        "cifar10, 97 leaves loaded",
        "head/* (2 leaves) new: 10 classes",
        "650 of 270,372 parameters",
        "0.01 × l2_sp (params, source_params)",
        "probe: 10 steps, 650 parameters, first 4 stages frozen, batch statistics frozen",
        "compiling the step… 3.1 s",
        "step 20 of 30",
        "Careful with [bold]brackets[/bold].",
        "2 min 5 s",
        "tlx eval runs/digits",
    ):
        assert words in text, words
    result = re.search(r"val +test\n  accuracy +75\.0 % +70\.0 %\n  loss +- +0\.400", text)
    assert "val accuracy 75.0 % (70.8 to 78.8 %)" in text  # Wilson's, of 450
    assert result


def test_the_metric_that_selects_comes_first_and_the_best_is_marked():
    lines = [x for x in said(run()).splitlines() if "val accuracy" in x]
    assert all(x.index("val accuracy") < x.index("val loss") for x in lines)
    assert ["best" in x for x in lines] == [True, False, True]


def test_all_of_three_pictures_is_said_with_what_that_is_worth():
    few = start()
    few["data"]["sizes"] = {"train": 20, "val": 3, "test": 5}
    metrics = {"accuracy": 1.0, "loss": 0.1}
    result = {
        "val": metrics, "test": {"accuracy": 0.8}, "seconds": 1,
        "examples": {"val": 3, "test": 5},
    }  # fmt: skip
    text = said([
        Event("start", 0, few),
        Event("eval", 5, {"split": "val", "metrics": metrics, "best": True, "epoch": 1.0}),
        Event("finish", 5, {"result": result, "curves": "", "next": []}),
    ])  # fmt: skip
    assert "val accuracy 100.0 % (43.8 to 100.0 %)   best" in text
    assert re.search(r"accuracy +100\.0 % +80\.0 %", text)
    assert re.search(r"95 % interval +43\.8 to 100\.0 % +37\.6 to 96\.4 %", text)


def test_what_is_fed_is_not_called_pictures_where_it_is_none():
    train = {"loss": 1.5, "features_per_second": 480_000}
    metrics = {"split": "val", "metrics": {"loss": 0.2}, "best": False, "epoch": None}
    text = said([Event("start", 0, start()), Event("train", 5, train), Event("eval", 5, metrics)])
    assert "480,000 cached features/s" in text
    assert "examples/s" not in text


def test_a_warning_while_compiling_gets_its_own_line():
    events = [
        Event("start", 0, start()),
        Event("compile", 0, {"what": "the step", "seconds": None}),
        Event("warning", 0, {"text": "Slow."}),
        Event("compile", 0, {"what": "the step", "seconds": 70.0}),
    ]
    lines = said(events).splitlines()[-3:]
    assert [x.split() for x in lines] == [
        ["compiling", "the", "step…"],
        ["warning", "Slow."],
        ["compiling", "the", "step…", "1", "min", "10", "s"],
    ]


def test_a_study_says_what_variants_share_once_and_compares_at_the_end():
    def events():
        for i, name in enumerate(("probe", "scratch")):
            variant = {"name": name, "number": i + 1, "of": 2}
            yield from run(f"runs/digits/{name}", variant=variant)
        rows = [
            {"variant": "probe", "test": 0.89, "low": 0.87, "high": 0.91, "seconds": 12.0},
            {"variant": "scratch", "test": 0.8, "low": None, "high": None, "seconds": 70.0},
        ]
        data = {"out": "runs/digits", "name": "digits", "rows": rows, "variants": {}}
        yield Event("study", 0, {**data, "text": "probe is 9 points better.", "next": ["tlx …"]})

    text = said(events())
    assert "variant 2 of 2: scratch · writing to runs/digits/scratch" in text
    assert text.count("cpu (2 cores)") == 1
    assert re.search(r"probe +89\.0 % +87\.0 % to 91\.0 % +12\.0 s\n", text)
    assert re.search(r"scratch +80\.0 % +- +1 min 10 s\n", text)
    assert "probe is 9 points better." in text
    assert text.splitlines()[-1].split() == ["written", "to", "runs/digits"]
    assert "tlx eval" not in text  # what to do next is said once, for the study


def test_a_terminal_gets_a_bar_and_is_left_clean():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    text = said(run(), Terminal())
    assert "examples/s" in text
    assert text.count("\x1b[?25h") == text.count("\x1b[?25l")  # the cursor is shown again


def test_an_encoding_without_our_signs_does_not_stop_the_console():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    console = Console(stream)
    for event in run():
        console.emit(event)
    assert b"compiling the step? 3.1 s" in raw.getvalue()


def test_a_run_without_weights_classes_or_divergence_is_told():
    data = start(weights=None, divergences=[], phases=[], selection=None)
    data["data"] = {"name": "pixels", "classes": (), "sizes": {"train": 5}}
    metrics = {"split": "val", "metrics": {"loss": 0.2}, "best": False, "epoch": None}
    finish = {"result": {}, "curves": "", "next": []}
    events = [Event("start", 0, data), Event("eval", 5, metrics), Event("finish", 5, finish)]
    text = said(events)
    assert "none: every parameter starts at random" in text
    assert "val loss 0.200" in text


def test_opening_the_sinks_imports_neither_jax_nor_numpy_nor_rich():
    code = (
        "import sys, tlx.reporting.console, tlx.sinks\n"
        "print(sorted({'jax', 'numpy', 'rich', 'optax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.9421, "94.2 %"),
        ("val/top5_accuracy", jnp.float32(1), "100.0 %"),
        ("loss", 0.2, "0.200"),
        ("loss", 1e-5, "1e-05"),
        ("loss", 0.0, "0"),
        ("loss", -12345.6, "-12,346"),
        ("n", np.int64(270372), "270,372"),
        ("loss", float("nan"), "nan"),
        ("loss", None, "-"),
        ("on", True, "True"),
    ],
)
def test_numbers_are_shown_as_people_read_them(name, value, text):
    assert shown(name, value) == text


def test_durations():
    assert [duration(s) for s in (0.04, 3.14, 245, 7800)] == [
        "0.0 s",
        "3.1 s",
        "4 min 5 s",
        "2 h 10 min",
    ]


def test_leaves_are_grouped_by_what_they_belong_to_and_why():
    assert grouped([("params/head/kernel", "new"), ("state/head/mean", "new")], "x") == [
        "head/* (2 leaves) x: new"
    ]
    assert grouped([("params/head/kernel", "no")], "new") == ["head/kernel new: no"]
    many = [(f"params/a{i}/k", "no") for i in range(9)]
    assert grouped(many, "new")[3:] == ["and 6 more groups new"]


def test_plain_is_what_json_holds():
    value = {1: np.arange(2), "a": (np.float32(0.5), None, True, {"b": float("-inf")})}
    assert plain(value) == {"1": [0, 1], "a": [0.5, None, True, {"b": "-inf"}]}
    assert json.loads(json.dumps(plain({"p": io}), allow_nan=False))["p"].startswith("<module")


def test_a_comparison_leaves_out_empty_columns():
    rows = [{"variant": "a", "test": 0.5, "val": None}, {"variant": "b", "test": None}]
    assert comparison({"rows": rows}) == [["variant", "test accuracy"], ["a", "50.0 %"], ["b", "-"]]
