"""How a run went, as curves over its steps: loss, metrics, divergences, learning rate and, without
labels, what was found of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.reporting.wording import in_percent
from tlx.sinks import EVAL, TRAIN
from tlx_report.figures import curves

FEATURES = (
    ("Accuracy of features", {"nearest neighbours": "knn_accuracy", "probe": "probe_accuracy"}),
    ("Effective rank of features (RankMe)", {"val": "rankme"}),
    ("Deviation of features", {"val": "feature_std"}),
)
"""Panels of what `tlx.training.health` measures on validation: (heading, {label: metric})."""


def figures(start: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(heading, svg) of the loss, the metric that was selected by, what was found of features,
    each divergence and the learning rate; without those that were never measured. `start` is the
    data of that event, `lines` those of `metrics.jsonl`."""
    train = [r for r in lines if r["kind"] == TRAIN]
    val = [r for r in lines if r["kind"] == EVAL and r["split"] == "val"]
    best = next((float(r["step"]) for r in reversed(val) if r.get("best")), None)

    def trained(key: str) -> list[tuple[float, float]]:
        return [(r["step"], float(r[key])) for r in train if r.get(key) is not None]

    def measured(key: str) -> list[tuple[float, float]]:
        pairs = [(r["step"], r["metrics"].get(key)) for r in val]
        return [(step, float(value)) for step, value in pairs if value is not None]

    metric = (start.get("selection") or ("accuracy",))[0]
    divergences = [str(d["name"]) for d in start["divergences"]]
    task = {"train, task alone": trained("task")} if divergences else {}
    # heading, lines, percent, whether the chosen step is marked
    panels = [("Loss", {"train": trained("loss"), **task, "val": measured("loss")}, False, True)]
    if metric != "loss":
        pair = {"train": trained(metric), "val": measured(metric)}
        heading = metric.replace("_", " ").capitalize()
        panels.append((heading, pair, in_percent(metric), True))
    for heading, keys in FEATURES:
        found = {label: measured(key) for label, key in keys.items()}
        panels.append((heading, found, all(map(in_percent, keys.values())), True))
    for name in divergences:
        panels.append((f"Divergence {name}", {name: trained(f"divergence/{name}")}, False, False))
    panels.append(("Learning rate", {"rate": trained("learning_rate")}, False, False))

    ends = np.cumsum([0, *(int(p["steps"]) for p in start["phases"])])
    phases = [(float(s), str(p["name"])) for s, p in zip(ends, start["phases"], strict=False)]
    drawings = []
    for i, (heading, pairs, percent, choice) in enumerate(panels):
        present = {label: points for label, points in pairs.items() if points}
        if present:
            svg = curves(
                present,
                f"c{i}",
                percent=percent,
                best=best if choice else None,
                boundaries=phases if len(phases) > 1 else (),
            )
            drawings.append((heading, svg))
    return drawings
