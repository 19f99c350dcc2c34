"""The page and the picture of a few-label table, from its lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
        10: 2.228, 11: 2.201, 12: 2.179, 14: 2.145, 19: 2.093, 29: 2.045}  # fmt: skip
"""Two-sided 95 % quantiles of Student's t by degrees of freedom."""


class Row(NamedTuple):
    """A method in a setting: percent on the test split over seeds, points ahead of the baseline
    with half the width of the interval (None for the baseline itself, and no interval for a single
    seed), and what was chosen."""

    method: str
    mean: float
    deviation: float
    seeds: int
    ahead: float | None
    half: float | None
    trial: str
    parameters: int
    seconds: float

    @property
    def verdict(self) -> str:
        if self.ahead is None or self.half is None:
            return ""
        if abs(self.ahead) <= self.half:
            return "cannot be told"
        return "better" if self.ahead > 0 else "worse"


def rows(setting: str, spec: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The methods of a setting in the table's order, as far as they have been tested."""
    metric, found = spec["metric"], {}
    for line in lines:
        if line["setting"] == setting and line["on"] == "test":
            found.setdefault(line["method"], {})[line["seed"]] = line
    base = {seed: line["test"][metric] for seed, line in found.get(spec["baseline"], {}).items()}
    out = []
    for method in (m["name"] for m in spec["method"]):
        if method not in found:
            continue
        values = {seed: line["test"][metric] for seed, line in found[method].items()}
        gaps = [100 * (values[seed] - base[seed]) for seed in values if seed in base]
        ahead = half = None
        if method != spec["baseline"] and gaps:
            ahead = float(np.mean(gaps))
        if ahead is not None and len(gaps) > 1:
            quantile = next(q for n, q in sorted(T_95.items()) if n >= min(len(gaps) - 1, 29))
            half = float(quantile * np.std(gaps, ddof=1) / math.sqrt(len(gaps)))
        percent = 100 * np.asarray(list(values.values()))
        one = next(iter(found[method].values()))
        out.append(
            Row(
                method, float(percent.mean()),
                float(percent.std(ddof=1)) if len(percent) > 1 else 0.0, len(percent),
                ahead, half, shown(one["trial"]), one["parameters"],
                float(np.median([line["seconds"] for line in found[method].values()])),
            )
        )  # fmt: skip
    return out


def shown(trial: Any) -> str:
    """A trial in a few words: the numbers that it sets."""
    if isinstance(trial, Mapping):
        parts = [
            shown(v) if isinstance(v, (Mapping, list)) else f"{k.replace('_', ' ')} {v}"
            for k, v in trial.items()
            if k != "name"
        ]
        return ", ".join(part for part in parts if part)
    return ", ".join(filter(None, map(shown, trial))) if isinstance(trial, list) else ""


def sentence(found: list[Row], baseline: str) -> str:
    """What a setting says, plainly."""
    by = {
        v: [r.method for r in found if r.verdict == v]
        for v in ("better", "worse", "cannot be told")
    }
    parts = []
    if found[0].seeds == 1:
        parts.append("One seed: no interval, nothing is proved.")
    if by["better"]:
        parts.append(f"Better than {baseline}: {', '.join(by['better'])}.")
    if by["worse"]:
        parts.append(f"Worse: {', '.join(by['worse'])}.")
    if by["cannot be told"]:
        parts.append(f"The interval includes 0, so they bring nothing that {found[0].seeds} seeds "
                     f"show: {', '.join(by['cannot be told'])}.")  # fmt: skip
    return " ".join(parts)


def unfinished(spec: Mapping[str, Any], tables: Mapping[str, list[Row]]) -> str:
    """What of the table has not been measured; '' where all has."""
    missing = []
    for setting in spec["setting"]:
        methods = set(setting.get("methods", [m["name"] for m in spec["method"]]))
        there = {
            row.method for row in tables.get(setting["name"], ())
            if row.seeds >= setting.get("seeds", spec["seeds"])
        }  # fmt: skip
        if methods - there:
            missing.append(f"{setting['name']} ({len(there)} of {len(methods)} methods)")
    return f"Not measured in full yet: {', '.join(missing)}." if missing else ""


def render(name: str, spec: Mapping[str, Any], lines: list[Mapping[str, Any]], docs: Path) -> None:
    """Write NAME.md and NAME.svg."""
    docs.mkdir(parents=True, exist_ok=True)
    settings = [s["name"] for s in spec["setting"]]
    tables = {s: found for s in settings if (found := rows(s, spec, lines))}
    text = [f"# {spec['title']}", "", spec["about"].strip(), "", f"![differences]({name}.svg)", ""]
    text += [unfinished(spec, tables), ""] if unfinished(spec, tables) else []
    about = {setting["name"]: setting for setting in spec["setting"]}
    for setting, found in tables.items():
        text += [f"## {setting}", "", sentence(found, spec["baseline"]), ""]
        published = about[setting].get("published", {})
        more = " published |" if published else ""
        head = "| method | test % | ± | difference, 95 % interval | chosen | trained | s a run |"
        rule = "| --- | ---: | ---: | ---: | --- | ---: | ---: |" + (" ---: |" if more else "")
        text += [head + more, rule]
        for r in found:
            gap = "" if r.ahead is None else f"{r.ahead:+.1f}"
            if r.half is not None:
                gap += f" ({r.ahead - r.half:+.1f} to {r.ahead + r.half:+.1f})"
            mark = f"**{gap}**" if r.verdict in ("better", "worse") else gap
            text.append(
                f"| {r.method} | {r.mean:.1f} | {r.deviation:.1f} | {mark} | {r.trial} | "
                f"{r.parameters:,} | {r.seconds:.1f} |"
                + (f" {published.get(r.method, '')} |" if published else "")
            )
        text.append("")
        if "others" in about[setting]:
            text += [f"Published, beside: {about[setting]['others']}.", ""]
    dates = sorted(line["date"] for line in lines)
    devices = sorted({line["device"] for line in lines})
    if dates:
        text += [
            f"Measured {dates[0][:10]} to {dates[-1][:10]} on {', '.join(devices)}, "
            f"`python benchmarks/transfer/few_labels.py benchmarks/transfer/tables/{name}.toml`; "
            f"every run is a line in `benchmarks/results/few_labels/{name}.jsonl`. ± is the "
            f"standard deviation over seeds, *trained* counts parameters that move, times include "
            f"compiling; the machine had other work at the time.",
            "",
        ]
    (docs / f"{name}.md").write_text("\n".join(text))
    picture(tables, spec, docs / f"{name}.svg")


def picture(tables: Mapping[str, list[Row]], spec: Mapping[str, Any], path: Path) -> None:
    """Differences to the baseline with their intervals, a panel for each setting."""
    from matplotlib.figure import Figure

    names = [m["name"] for m in spec["method"] if m["name"] != spec["baseline"]]
    names = [n for n in names if any(r.method == n for found in tables.values() for r in found)]
    count = max(len(tables), 1)
    figure = Figure(figsize=(2.2 + 2.6 * count, 1.2 + 0.24 * len(names)), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    colours = {"better": "#1a7f37", "worse": "#b3261e", "cannot be told": "#6b7280"}
    for panel, (setting, found) in zip(panels, tables.items(), strict=False):
        for r in found:
            if r.ahead is not None:
                place = len(names) - names.index(r.method)
                colour = colours[r.verdict or "cannot be told"]
                panel.errorbar(r.ahead, place, xerr=r.half, fmt="o", ms=4, capsize=2, color=colour)
        panel.axvline(0, color="black", lw=0.8)
        panel.set_title(setting, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(axis="x", lw=0.3)
        panel.set_xlabel(f"points over {spec['baseline']}", fontsize=7)
    panels[0].set_yticks(range(len(names), 0, -1), names)
    figure.savefig(path, metadata={"Date": None})
