"""How numbers and reports of a run are put in words.

The console and the HTML report say the same things; this is where the sentences are made, from
the data of the events that `tlx.sinks` lists. Nothing here knows where the words will be shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlx.errors import listed
from tlx.numerics.shares import wilson, within


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy and jax values as Python's, paths and what else there
    is as text, a number that is not finite as 'nan', 'inf' or '-inf'."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def as_json(value: Any) -> str:
    """`value` as indented JSON."""
    return json.dumps(plain(value), indent=2)


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text in left-aligned columns, a line each."""
    rows = list(rows)
    widths: dict[int, int] = {}
    for row in rows:
        for column, cell in enumerate(row):
            widths[column] = max(widths.get(column, 0), len(cell))
    lines = ("  ".join(cell.ljust(widths[n]) for n, cell in enumerate(row)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def in_percent(metric: str) -> bool:
    """Whether a metric is a share that people read in percent."""
    return metric.endswith(("accuracy", "recall", "precision"))


def shown(name: str, value: Any) -> str:
    """A metric as people read it: shares in percent, counts with separators, '-' for None."""
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, str | bool | list | dict):
        return str(value)
    if in_percent(name):
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.3g}"


def ends(metric: str, mean: float, half: float) -> str:
    """The interval of a mean as people read it; that of a share stays one."""
    low, high = mean - half, mean + half
    low, high = within(low, high) if in_percent(metric) else (low, high)
    return f"{shown(metric, low)} to {shown(metric, high)}"


def observed(metric: str, value: Any, count: Any) -> str:
    """The 95 % interval of a share of `count` examples, such as `43.8 to 100.0 %`; an empty string
    where a metric is no such share or the count is not known."""
    value, count = plain(value), plain(count)
    if metric != "accuracy" or not count or not isinstance(value, int | float):
        return ""
    low, high = wilson(float(value), int(count))
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def grouped(leaves: Iterable[tuple[str, str]], verb: str) -> list[str]:
    """(leaf path, why) pairs in a few lines: "head/* (2 leaves) new: 10 classes"."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path, why in leaves:
        path = path.removeprefix("params/").removeprefix("state/")
        groups.setdefault((path.split("/")[0], why), []).append(path)
    lines = []
    for (top, why), paths in groups.items():
        what = paths[0] if len(paths) == 1 else f"{top}/* ({len(paths)} leaves)"
        lines.append(f"{what} {verb}: {why}")
    return lines if len(lines) <= 4 else [*lines[:3], f"and {len(lines) - 3} more groups {verb}"]


def duration(seconds: float) -> str:
    """Seconds as "3.1 s", "4 min 5 s" or "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


NORM: Mapping[str, str] = {
    "frozen_affine": "frozen, scales and offsets too",
    "recompute": "train, recomputed before every validation",
    "stochastic": "train, each channel by the batch's or the running ones at random",
}
"""What policies for batch statistics are in words, where the name does not say it."""


def headline(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a `start` event says, as (label, text) rows in reading order; a label may repeat."""
    source, backbone, weights = data["data"], data["backbone"], data.get("weights")
    sizes = " / ".join(f"{shown('', n)} {split}" for split, n in source["sizes"].items())
    names = [str(c) for c in source["classes"]]
    classes = [f"{len(names)} classes ({_some(names)})"] if names else []
    spread = f", mesh {data['mesh']}" if data.get("mesh") else ""
    rows = [("device", f"{data['device']}{spread}")]
    rows.append(("data", " · ".join([str(source["name"]), *classes, sizes])))
    rows += [("data", str(n)) for n in source.get("notes") or ()]
    if domain := data.get("domain"):
        pictures = shown("", domain["pictures"])
        rows.append(("domain", f"{domain['name']} · {pictures} pictures without labels"))
    rows.append(("backbone", f"{backbone['name']}, {shown('', backbone['parameters'])} parameters"))
    if unread := backbone.get("left_out"):
        rows.append(("backbone", f"{listed(unread)} left out: nobody reads what comes of it"))
    if weights:
        spoken = f" ({weights['dialect']} names)" if weights["dialect"] else ""
        spoken += f", behind {weights['prefix']!r}" if weights.get("prefix") else ""
        count = f"{shown('', weights['loaded'])} leaves loaded{spoken}"
        rows.append(("weights", f"{weights['name']}, {count}"))
        rows += [("weights", line) for line in grouped(weights["changed"], "changed")]
        rows += [("weights", line) for line in weights["notes"]]
        rows += [("weights", line) for line in grouped(weights["initialised"], "new")]
        rows += [("weights", line) for line in grouped(weights["skipped"], "skipped")]
    else:
        random = data.get("random") or "none: every parameter starts at random"
        rows.append(("weights", random))
    counts = f"{shown('', data['trainable'])} of {shown('', data['total'])} parameters"
    rows.append(("trains", counts))
    for d in data["divergences"]:
        asks = f" ({listed(d['words'])})" if d["words"] else ""
        moves = d.get("schedule", "constant")
        over = "" if moves == "constant" else f", weight schedule {moves}"
        rows.append(("divergence", f"{float(d['weight']):g} × {d['name']}{asks}{over}"))
    patience = data.get("patience")
    for p in data["phases"]:
        n = p["frozen_stages"]
        frozen = f", first {n} stages frozen" if n > 1 else ", first stage frozen" if n else ""
        count = f"{shown('', p['steps'])} step{'s'[: p['steps'] != 1]}"
        if patience and p is data["phases"][-1]:
            count = f"at most {count}, until {patience} evaluations in a row bring nothing better"
        how = "solved for" if p.get("solved") else count
        text = (
            f"{p['name']}: {how}, {shown('', p['trainable'])} parameters{frozen}, batch statistics "
            f"{NORM.get(p['norm'], p['norm'])}"
        )
        rows.append(("phases", text))
    return rows


def results(result: Mapping[str, Any]) -> list[list[str]]:
    """A table of metric by split, heading first; only the heading where nothing was measured."""
    found = {s: result[s] for s in ("val", "test") if isinstance(result.get(s), Mapping)}
    if (result.get("domain") or {}).get("test"):
        found["domain test"] = result["domain"]["test"]
    metrics = list(dict.fromkeys(m for metrics in found.values() for m in metrics))
    table = [["", *found]]
    for metric in metrics:
        values = [each.get(metric) for each in found.values()]
        table.append([metric.replace("_", " "), *(shown(metric, value) for value in values)])
        counts = [_examples(result, split) for split in found]
        spans = [observed(metric, *pair) for pair in zip(values, counts, strict=True)]
        if any(spans):
            table.append(["  95 % interval", *(span or "-" for span in spans)])
    return table


def _examples(result: Mapping[str, Any], split: str) -> Any:
    """How many examples the metrics of a split are of; None where nobody says."""
    own = result.get(split)
    counted = own.get("examples") if isinstance(own, Mapping) else None
    sizes = result.get("examples")
    return counted or (sizes.get(split) if isinstance(sizes, Mapping) else None)


def kept(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run has kept of its source, as (label, text) rows; nothing where it had none."""
    found = result.get("forgetting")
    if not found:
        return []
    if "cka" not in found:
        return [("source", "The backbone is as it was loaded, so nothing is forgotten.")]
    stages = {name: float(value) for name, value in found["drift"].items() if name != "backbone"}
    most = max(stages, key=lambda name: stages[name], default="")
    text = (
        f"The backbone has moved by {100 * float(found['drift']['backbone']):.2g} % of its length"
    )
    text += f", most of all {most} ({100 * stages[most]:.2g} %)." if len(stages) > 1 else "."
    if alike := found["cka"]:
        least = min(alike, key=lambda name: alike[name])
        text += f" Its features are least like the source's at {least} (CKA {alike[least]:.2f})."
    if found.get("agreement") is not None:
        text += (
            f" On {shown('', found['examples'])} test pictures the source's own head still answers "
            f"alike in {shown('accuracy', found['agreement'])} (KL {found['kl']:.2g})."
        )
    if own := found.get("source"):
        ends = (shown(own["metric"], own[key]) for key in ("before", "after"))
        text += (
            f" On its own task, {own['name']}, its {own['metric']} goes from {' to '.join(ends)}."
        )
    return [("source", text)]


def spent(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the wall time of a run went, the largest part first, as (label, text) rows; nothing
    where it was not measured. Parts of less than a thousandth are left out."""
    parts = result.get("profile") or {}
    whole = sum(parts.values())
    shares = [(name, seconds, seconds / whole) for name, seconds in parts.items()]
    told = [
        f"{name} {100 * share:.1f} % ({duration(seconds)})"
        for name, seconds, share in shares
        if share >= 0.001
    ]
    return [("time went", f"to {listed(told)}")] if told else []


def comparison(data: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a `study` event as a table of text, heading first; `low` and `high` become
    one column, and a column that is empty everywhere is left out."""
    metric, rows = str(data.get("metric") or "accuracy"), data["rows"]
    keys = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in ("low", "high")]
    keys = [k for k in keys if any(r.get(k) is not None for r in rows)]
    bounded = any(r.get("low") is not None for r in rows)
    names = {"test": f"test {metric}", "val": f"val {metric}", "seconds": "time"}
    names["domain"] = f"domain {metric}"
    of = "domain" if "domain" in keys else "test"  # what the interval is of
    names["trainable"] = "trained parameters"
    head = [names.get(k) or str(k).replace("_", " ") for k in keys]
    if bounded:
        head.insert(keys.index(of) + 1, "interval")
    table = [head]
    for r in rows:
        line = [shown(metric if k in ("domain", "test", "val") else k, r.get(k)) for k in keys]
        if r.get("seconds") is not None:
            line[keys.index("seconds")] = duration(float(r["seconds"]))
        if bounded:
            low, high = r.get("low"), r.get("high")
            span = "-" if low is None else f"{shown(metric, low)} to {shown(metric, high)}"
            line.insert(keys.index(of) + 1, span)
        table.append(line)
    return table


def point(values: Mapping[str, Any]) -> str:
    """A point of a sweep: `divergence.0.weight 0.01, optimizer.learning_rate 0.001`."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def points(data: Mapping[str, Any]) -> list[list[str]]:
    """The points of a `sweep` event as a table of text, heading first, the chosen one marked."""
    metric, keys = str(data["metric"]), [axis["key"] for axis in data["axes"]]
    several = len(data["seeds"]) > 1
    measures = kept_measures(data)
    head = [*keys, f"val {metric}", *(["95 % interval"] if several else [])]
    table = [[*head, *(heading for heading, _, _ in measures), ""]]
    for row in data["points"]:
        mean, half = row["mean"], row["half"]
        span = ["" if half is None else ends(metric, mean, half)] if several else []
        reached = "diverged" if mean is None else shown(metric, mean)
        mark = "chosen" if row["point"] == data["chosen"] else ""
        left = [shown(name, (row.get("kept") or {}).get(key)) for _, key, name in measures]
        table.append([*(str(row["point"][key]) for key in keys), reached, *span, *left, mark])
    return table


def kept_measures(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a `sweep` event tells of what was kept of the source, the most telling first: (heading,
    key in `kept`, a metric that is shown alike)."""
    rows = [row["kept"] for row in data["points"] if row.get("kept")]
    found = []
    if rows and all("source" in row for row in rows):
        found.append((f"{rows[0]['name']}'s {rows[0]['metric']}", "source", rows[0]["metric"]))
    if rows and all("agreement" in row for row in rows):
        found.append(("source's answers kept", "agreement", "accuracy"))
    return [*found, ("backbone moved", "moved", "accuracy")] if rows else []


def sweep_outcome(data: Mapping[str, Any]) -> str:
    """What a sweep came to, in a sentence."""
    metric, count = str(data["metric"]), len(data["seeds"])
    said = []
    for split, where in (("domain", "the domain's test pictures"), ("test", "the test split")):
        if found := data.get(split):
            half, mean = found["half"], found[metric]
            value = f"{shown(metric, mean)} {metric} on {where}"
            if half is not None:
                span = ends(metric, mean, half)
                value += f" (mean of {count} seeds, 95 % interval {span})"
            said.append(value)
    return f"Validation chooses {point(data['chosen'])}: {', and '.join(said)}."


def arms(setting: Mapping[str, Any]) -> list[list[str]]:
    """The arms of one setting of an `audit` event as a table of text, heading first."""
    metric = str(setting["metric"])
    intervals = any(row["half"] is not None for row in setting["arms"])
    head = [
        "arm",
        f"test {metric}",
        *(["95 % interval over seeds"] if intervals else []),
        "against scratch",
    ]
    table = [[*head, f"val {metric}", "learning rate", "backbone moved", "trained", "time"]]
    for row in setting["arms"]:
        gain = "" if row["gain"] is None else change(metric, row["gain"], row["gain_half"])
        half = row["half"]
        span = ["-" if half is None else ends(metric, row["test"], half)] if intervals else []
        values = [shown(metric, row["test"]), *span, gain, shown(metric, row["val"])]
        moved = "" if row.get("moved") is None else shown("accuracy", row["moved"])
        costs = [moved, shown("", row["trained_parameters"]), duration(float(row["seconds"]))]
        rate = "exact head" if row.get("solved") else f"{row['rate']:g}"
        table.append([row["arm"], *values, rate, *costs])
    return table


def size(metric: str, value: float | None) -> str:
    """A difference of a metric without its sign: points where it is a share."""
    if value is None:
        return "?"
    return f"{100 * value:.1f}" if in_percent(metric) else f"{value:.3g}"


def change(metric: str, mean: float, half: float | None) -> str:
    """How much better, and the half width of the interval: `+8.4 ± 2.1`."""
    return f"{'+' if mean >= 0 else '−'}{size(metric, abs(mean))} ± {size(metric, half)}"


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return listed(names) if rest <= 1 else f"{listed(names[:most])} and {rest} more"
