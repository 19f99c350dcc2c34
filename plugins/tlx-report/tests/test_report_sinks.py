"""The sinks of tlx-report, fed with the events of a run that never was."""

import html.parser
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from tlx_report.figures import bars, curves
from tlx_report.html import Html
from tlx_report.pictures import SIDE, embedded, heatmap
from tlx_report.tensorboard import TensorBoard

from tlx.sinks import Jsonl, Sinks
from tlx.types import Event

EVIL = "<script>alert('x')</script>"


def start(out, classes=("ant", EVIL, "a $x$ & [b]"), **more):
    return {
        "out": str(out),
        "device": "cpu",
        "name": f"digits {EVIL}",
        "config": {
            "name": "digits",
            "seed": 0,
            "strategy": {"name": "finetune"},
            "divergence": [{"name": "l2_sp", "weight": 0.01}],
            "data": {"name": EVIL, "shots": 10, "only": []},
        },
        "data": {
            "name": "digits",
            "classes": classes,
            "sizes": {"train": 100, "val": 450, "test": 360},
            "notes": ["10 labels a class."],
        },
        "backbone": {"name": "resnet20", "parameters": 269722},
        "weights": {
            "name": "cifar10",
            "loaded": 97,
            "dialect": "timm",
            "changed": [("params/backbone/stem/kernel", "summed over its 3 input channels")],
            "initialised": [("params/head/kernel", "3 classes here, 10 in the file")],
            "notes": ["3 leaves converted from float16 to float32"],
            "skipped": [("fc.weight", EVIL)],
            "sha256": "0f" * 32,
        },
        "trainable": 270372,
        "total": 270372,
        "phases": [
            {"name": "probe", "steps": 10, "trainable": 650, "norm": "frozen", "frozen_stages": 4},
            {"name": "all", "steps": 20, "trainable": 270372, "norm": "train", "frozen_stages": 0},
        ],
        "divergences": [{"name": "l2_sp", "weight": 0.01, "words": ("params", "source_params")}],
        "selection": ("accuracy", "max"),
        **more,
    }


def samples(n=30):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            "label": i % 3,
            "predicted": np.int64(1),
            "probability": np.float32(0.9),
        }
        for i in range(n)
    ]


def run(out, confusion=None, **more):
    yield Event("start", 0, start(out, **more))
    yield Event("warning", 0, {"text": f"Careful with {EVIL}."})
    for step in range(5, 35, 5):
        train = {
            "loss": np.float32(1 / step) if step != 15 else np.float32("nan"),
            "task": 0.9 / step,
            "learning_rate": 0.1,
            "divergence/l2_sp": np.float32(step),
            "divergence/l2_sp/weighted": 0.01 * step,
            "accuracy": 0.5,
            "images_per_second": 1000.0,
        }
        yield Event("train", step, train)
        metrics = {"accuracy": np.float64(0.9 if step == 20 else 0.5), "loss": 0.3}
        best = step in (5, 20)
        data = {"split": "val", "metrics": metrics, "best": best, "epoch": step / 5}
        yield Event("eval", step, data)
    finish = {
        "result": {
            "test": {"accuracy": 0.9421, "loss": 0.21},
            "val": {"accuracy": 0.9, "loss": 0.3},
            "trainable_parameters": 270372,
            "seconds": 41.3,
            "compile_seconds": 3.1,
            "seed": 0,
            "versions": {"python": "3.11", "jax": "0.10"},
        },
        "confusion": np.float32([[9, 1, 0], [0, 10, 0], [3, 0, 7]])
        if confusion is None
        else confusion,
        "samples": samples(),
        "curves": str(Path(out) / "metrics.jsonl"),
        "next": [f"tlx predict {out} image.png"],
    }
    yield Event("finish", 30, finish)


def written(out, events):
    failures = []

    class Warnings:
        def emit(self, event):
            if event.kind == "warning" and "failed" in event.data["text"]:
                failures.append(event.data["text"])

        def close(self): ...

    sinks = Sinks((Jsonl(), Html(), Warnings()))
    for event in events:
        sinks.emit(event)
    sinks.close()
    assert not failures
    return (Path(out) / "report.html").read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
    """Tags in order, and whether they are closed properly."""

    VOID = frozenset(("meta", "br", "img", "path", "use", "link"))

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text, self.sources = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_run_report_says_what_ran_and_what_came_out(tmp_path):
    page = Page(written(tmp_path, run(tmp_path)))
    text = " ".join(" ".join(page.text).split())
    for said in (
        "94.2 % test accuracy",
        "270,372 of 270,372 parameters",
        "100 train / 450 val / 360 test",
        "0.01 × l2_sp (params, source_params)",
        "head/kernel new: 3 classes here, 10 in the file",
        "a $x$ & [b] taken for ant (3 of 10)",
        "divergence.0.weight 0.01",
        "data.shots 10",
        "jax 0.10",
        "41.3 s",
        "0f0f",
        f"tlx predict {tmp_path} image.png",
        "chosen, step 20",
        "Divergence l2_sp",
    ):
        assert said in text, said
    assert page.tags.count("svg") == 4


def test_report_needs_nothing_from_outside(tmp_path):
    text = written(tmp_path, run(tmp_path))
    page = Page(text)
    assert page.tags.count("img") == 24
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in page.sources)
    assert "url(http" not in text
    assert "@import" not in text


def test_names_are_escaped_everywhere(tmp_path):
    text = written(tmp_path, run(tmp_path))
    assert "script" not in Page(text).tags
    assert EVIL not in text
    assert text.count("&lt;script&gt;") > 5


def test_ids_of_the_drawings_do_not_collide(tmp_path):
    ids = re.findall(r'\bid="([^"]+)"', written(tmp_path, run(tmp_path)))
    assert ids
    assert len(ids) == len(set(ids))


def test_many_classes_make_a_picture_of_the_confusion(tmp_path):
    confusion = np.eye(30, dtype=int) * 7
    confusion[3, 4] = 2
    names = tuple(f"class {i}" for i in range(30))
    text = written(tmp_path, run(tmp_path, confusion=confusion, classes=names))
    assert 'class="large"' in text
    assert 'class="confusion"' not in text
    assert "<b>class 3</b> taken for <b>class 4</b> (2 of 9)" in text


def test_a_run_without_head_weights_or_evaluation_has_a_report(tmp_path):
    data = start(tmp_path, classes=(), weights=None, divergences=[], selection=None)
    finish = {"result": {}, "confusion": None, "samples": [], "curves": "absent", "next": []}
    sink = Html()
    sink.emit(Event("start", 0, data))
    sink.emit(Event("finish", 1, finish))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(text)
    assert "every parameter starts at random" in text
    assert "Confusion" not in text


def label_free(out, n=12):
    """The events of a run without labels to learn from; it is told its classes all the same."""
    rng = np.random.default_rng(0)
    pictures = lambda *shape: rng.integers(0, 256, (*shape, 8, 8, 3), dtype=np.uint8)  # noqa: E731
    yield Event("start", 0, start(out, divergences=[], selection=("loss", "min")))
    health = {"feature_std": 0.5, "rankme": 9.1, "knn_accuracy": 0.3, "probe_accuracy": 0.4}
    yield Event("eval", 0, {"split": "val", "metrics": health, "best": False, "epoch": 0.0})
    yield Event("train", 5, {"loss": 1.0, "task": 1.0, "learning_rate": 0.1})
    metrics = {**health, "loss": np.float32(0.7)}
    yield Event("eval", 5, {"split": "val", "metrics": metrics, "best": True, "epoch": 1.0})
    finish = {
        "result": {"val": metrics, "test": {"loss": 0.8}},
        "confusion": None,
        "samples": [],
        "drawn": {t: pictures(3) for t in ("original", "seen", f"filled {EVIL}")},
        "neighbours": {
            "pictures": pictures(2),
            "nearest": pictures(2, 4),
            "labels": np.array([0, 1]),
            "nearest_labels": np.array([[0, 0, 2, 0], [1, 0, 1, 1]]),
        },
        "features": {
            "before": rng.normal(size=(n, 5)),
            "after": rng.normal(size=(n, 5)),
            "labels": np.arange(n) % 3,
        },
        "curves": str(Path(out) / "metrics.jsonl"),
        "next": [],
    }
    yield Event("finish", 5, finish)


def test_report_of_a_run_without_labels_shows_what_it_learnt(tmp_path):
    source = written(tmp_path, label_free(tmp_path))
    page = Page(source)
    text = " ".join(" ".join(page.text).split())
    for said in (
        "30.0 % val knn accuracy",
        "Accuracy of features",
        "Effective rank of features (RankMe)",
        "Deviation of features",
        "original seen filled",
        "6 of these 8 have the class of their picture",
        "✗ ant",
        "one of 12 validation pictures",
        "t-SNE keeps neighbourhoods, not distances",
        "rankme 9.100 -",
    ):
        assert said in text, said
    assert page.tags.count("img") == 3 * 3 + 2 + 2 * 4
    assert page.tags.count("svg") == 5 + 2
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in page.sources)
    assert "script" not in page.tags
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))


def test_report_of_a_run_without_labels_and_few_pictures_has_no_map(tmp_path):
    text = written(tmp_path, label_free(tmp_path, n=9))
    assert "There is no map of features: it takes 10 examples, and there are 9." in text
    assert "t-SNE" not in text


def study(out):
    rows = [
        {"variant": "scratch", "test": 0.8, "val": 0.81, "low": 0.77, "high": 0.83},
        {"variant": "l2-sp", "test": np.float32(0.942), "val": 0.95, "low": 0.92, "high": 0.96},
        {"variant": EVIL, "test": None, "val": None},
    ]
    data = {"out": str(out), "name": "digits", "rows": rows, "metric": "accuracy"}
    return Event("study", 0, {**data, "variants": {}, "text": f"Better. {EVIL}"})


def test_study_report_compares_and_links(tmp_path):
    (tmp_path / "l2-sp").mkdir()
    (tmp_path / "l2-sp" / "report.html").write_text("x", encoding="utf-8")
    text = written(tmp_path, [study(tmp_path)])
    page = Page(text)
    assert page.sources[-1:] == ["l2-sp/report.html"]
    assert "92.0 % to 96.0 %" in text
    assert "94.2 %" in text
    assert "script" not in page.tags
    assert page.tags.count("svg") == 1


def test_curves_hold_the_values_they_are_given():
    points = [(0, 1.0), (10, 3.0), (20, float("nan")), (30, 5.0), (40, 2.0)]
    root = ET.fromstring(curves({"loss": points}, "c"))
    lines = [
        e.get("d") for e in root.iter() if e.tag.endswith("path") and "3b82c4" in e.get("style", "")
    ]
    line = next(d for d in lines if d and d.count("L") == 2 and "C" not in d)
    xy = [tuple(map(float, p)) for p in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", line)]
    assert line.count("M") == 2  # the gap
    x, y = np.array(xy).T
    kept = np.array([p for p in points if p[1] == p[1]], float)
    # pixels are an affine picture of the values, upside down
    for pixels, values in ((x, kept[:, 0]), (-y, kept[:, 1])):
        slope, shift = np.polyfit(values, pixels, 1)
        assert slope > 0
        np.testing.assert_allclose(slope * values + shift, pixels, atol=1e-4)


def test_drawings_are_the_same_every_time_and_take_the_ink_of_the_page():
    draw = lambda: curves({"a": [(1, 1.0), (2, 2.0)]}, "c", best=2, boundaries=[(0, "p")])  # noqa: E731
    assert draw() == draw()
    assert "currentColor" in draw()
    assert "#010203" not in draw()
    assert "<metadata" not in draw()


def test_bars_are_as_long_as_their_values():
    rows = [{"variant": "a", "test": 0.4}, {"variant": "b", "test": 0.8, "low": 0.7, "high": 0.9}]
    root = ET.fromstring(bars(rows, "test accuracy", "b", percent=True))
    boxes = [
        np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", e.get("d", "")), float)
        for e in root.iter()
        if e.tag.endswith("path") and "fill: #3b82c4" in e.get("style", "")
    ]
    short, long = (np.ptp(b[:, 0]) for b in boxes)
    assert long == pytest.approx(2 * short, rel=1e-4)


def decoded(address):
    import base64
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (8, 8), (28, 20, 3)])
def test_tiny_pictures_are_enlarged_pixel_by_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = decoded(embedded(image))
    factor = SIDE // max(shape[:2])
    np.testing.assert_array_equal(
        shown[::factor, ::factor], image.reshape(shown[::factor, ::factor].shape)
    )
    assert shown.shape[0] == shape[0] * factor


def test_large_pictures_are_reduced():
    address = embedded(np.full((900, 600, 3), (200, 100, 50), np.uint8))
    assert address.startswith("data:image/jpeg")
    assert decoded(address).shape == (224, 149, 3)
    np.testing.assert_allclose(decoded(address)[100, 70], (200, 100, 50), atol=3)


def test_heatmap_is_opaque_where_the_share_is_one():
    alpha = decoded(heatmap(np.array([[0.0, 1.0], [0.5, 0.2]])))[..., 3]
    np.testing.assert_array_equal(alpha, [[0, 255], [128, 51]])


def records(folder):
    """What TensorBoard would read, from every event file in order."""
    import struct

    from tensorboardX.proto.event_pb2 import Event as Record

    for file in sorted(folder.glob("events*")):
        raw = file.read_bytes()
        while raw:  # length, its checksum, record, its checksum
            (n,) = struct.unpack("<Q", raw[:8])
            yield Record.FromString(raw[12 : 12 + n])
            raw = raw[16 + n :]


@pytest.mark.parametrize("events", [run, label_free])
def test_tensorboard_reads_back_what_was_emitted(tmp_path, events):
    sink, expected = TensorBoard(), {}
    for event in events(tmp_path):
        sink.emit(event)
        if event.kind == "train":
            expected |= {(f"train/{k}", event.step): v for k, v in event.data.items()}
        if event.kind == "eval":
            expected |= {(f"val/{k}", event.step): v for k, v in event.data["metrics"].items()}
    sink.close()
    found = {
        (value.tag, record.step): value.simple_value
        for record in records(tmp_path / "tensorboard")
        for value in record.summary.value
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], float(value), rtol=1e-6)


def test_tensorboard_of_a_resumed_run_hides_what_was_beyond(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    for first in (1, 21):
        sink = TensorBoard()
        sink.emit(Event("start", 0, start(tmp_path)))
        for step in range(first, first + 30):
            sink.emit(Event("train", step, {"loss": 1.0}))
        sink.close()
        sink.emit(Event("train", 99, {"loss": 1.0}))  # closed: nothing happens
    steps = [
        r.step
        for r in records(tmp_path / "tensorboard")
        if r.session_log.status == SessionLog.START
    ]
    assert steps == [21]  # what the earlier file holds from here on is dropped


def test_importing_the_sinks_does_not_import_what_draws():
    code = (
        "import sys, tlx_report.html, tlx_report.tensorboard\n"
        "slow = {'matplotlib', 'jinja2', 'tensorboardX', 'PIL', 'sklearn', 'jax'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_of_a_run_shows_its_data_what_was_kept_and_how_to_run_it_again(tmp_path):
    *most, finish = run(tmp_path)
    counts = {"train": {"ant": 60, EVIL: 40, "c": 1234}, "test": {"ant": 1, EVIL: 2, "c": 3}}
    most[0].data["data"]["counts"] = counts
    picture = np.zeros((8, 8, 3), np.uint8)
    forgetting = {
        "drift": {"backbone": 0.12, "stem": 0.01, "stage1": 0.31},
        "cka": {"stem": 0.99, "stage1": 0.42},
        "examples": 256, "kl": 0.31, "agreement": 0.8,
        "source": {"name": EVIL, "metric": "accuracy", "before": 0.9, "after": 0.5, "examples": 9},
    }  # fmt: skip
    data = {**finish.data, "training": {"ant": [picture] * 3, EVIL: [picture]}}
    data["result"] = {**finish.data["result"], "forgetting": forgetting, "steps": 30}
    page = written(tmp_path, [*most, Event("finish", 30, data)])
    headings = re.findall("<h2>(.*?)</h2>", page)
    order = ["What ran", "The data", "Results", "Curves", "What was kept of the source",
             "Confusion matrix of the test split", "Test pictures", "What to do next",
             "What it took", "How to run it again", "In detail"]  # fmt: skip
    assert headings == order
    assert "1,234" in page
    assert "most of all stage1 (31 %)" in page
    assert "goes from 90.0 % to 50.0 %" in page
    assert "CKA with the source" in page
    assert f"tlx run {tmp_path}/run.toml" in page
    assert EVIL not in page


def audit(out, **more):
    arm = {"rate": 0.1, "tried": [0.1], "val": 0.8, "half": 0.02, "values": [0.7, 0.8]}
    arm |= {"trained_parameters": 1000, "seconds": 12.0}
    arms = [
        {**arm, "arm": "scratch", "test": 0.75, "gain": None, "gain_half": None},
        {**arm, "arm": "finetune", "test": 0.85, "gain": 0.1, "gain_half": 0.03},
        {**arm, "arm": EVIL, "test": 0.85, "half": None, "gain": -0.1, "gain_half": None},
    ]
    one = {"metric": "accuracy", "text": f"It helps, {EVIL}.", "arms": arms}
    return {
        "out": str(out), "name": f"audit {EVIL}", "metric": "accuracy", "direction": "max",
        "verdict": "helps", "text": "The transfer helps.", "advice": ["Use finetune."],
        "settings": [{"labels": n, **one} for n in more.get("labels", [None])],
        "seeds": 2, "resplit": False, "next": ["tlx predict"],
    }  # fmt: skip


@pytest.mark.parametrize(("labels", "drawings"), [([None], 1), ([10, "all"], 3)])
def test_the_page_of_an_audit_says_what_came_out_and_how_it_was_compared(
    tmp_path, labels, drawings
):
    linked = tmp_path / ("" if labels == [None] else "labels-10") / "finetune" / "seed-0"
    linked.mkdir(parents=True)
    (linked / "report.html").write_text("")
    page = written(tmp_path, [Event("audit", 0, audit(tmp_path, labels=labels))])
    assert page.count("<svg") == drawings
    assert "The transfer helps." in page
    assert "+10.0 ± 3.0" in page
    assert "−10.0 ± ?" in page
    assert 'finetune/seed-0/report.html"' in page
    assert ("How it depends on the number of labels" in page) == (len(labels) > 1)
    assert EVIL not in page
