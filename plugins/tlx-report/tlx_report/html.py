"""`report.html`: one file that explains a run, a sweep, a ranking or an audit, or compares a study.

The page needs nothing from outside: style, drawings and pictures are inside of it. It says what
ran, how it went and what came out, in the words of `tlx.reporting.wording`, and every name that
came from data or configuration is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

import numpy as np

from tlx.reporting.wording import (
    comparison,
    duration,
    headline,
    in_percent,
    kept,
    plain,
    points,
    results,
    shown,
    spent,
    sweep_outcome,
)
from tlx.selection import rank_table
from tlx.sinks import AUDIT, FINISH, NOTE, RANK, START, STUDY, SWEEP, WARNING, read_jsonl
from tlx.types import Event
from tlx_report.audit_figures import arms_of, by_labels
from tlx_report.drift_figures import drift_figures
from tlx_report.embedding import maps
from tlx_report.progress import figures
from tlx_report.sheets import answers, class_name, data_sheet, drawings, neighbours
from tlx_report.sweep_path import paths

ANNOTATED = 20
"""A confusion matrix of at most this many classes is a table with its counts."""


@final
class Html:
    """Writes `report.html` into a run's folder at its end, and into a study's at its end.

    `pictures`: how many test pictures to show at most, wrong ones first up to half."""

    def __init__(self, pictures: int = 24) -> None:
        self._pictures = pictures
        self._start: Event | None = None
        self._texts: list[tuple[str, str]] = []

    def emit(self, event: Event) -> None:
        """Remember what a run says at its start; write when it, its study or a ranking ends."""
        data = event.data
        if event.kind == START:
            self._start, self._texts = event, []
        elif event.kind in (NOTE, WARNING):
            self._texts.append((event.kind, str(data["text"])))
        elif event.kind == FINISH and self._start:
            start = self._start.data
            page = run_page(start, data, texts=self._texts, pictures=self._pictures)
            _write(Path(start["out"]), page)
        elif event.kind == STUDY:
            _write(Path(data["out"]), study_page(data))
        elif event.kind == SWEEP:
            _write(Path(data["out"]), sweep_page(data))
        elif event.kind == RANK:
            _write(Path(data["out"]), rank_page(data))
        elif event.kind == AUDIT:
            _write(Path(data["out"]), audit_page(data))

    def close(self) -> None:
        """Nothing is open."""


def run_page(
    start: Mapping[str, Any],
    finish: Mapping[str, Any],
    *,
    texts: Sequence[tuple[str, str]] = (),
    pictures: int = 24,
) -> str:
    """The page of a run from the data of its `start` and `finish` events."""
    result = plain(finish["result"])
    classes, confusion = start["data"]["classes"], finish.get("confusion")
    return _rendered(
        "run.html",
        title=str(start["name"]),
        tiles=_tiles(start, result),
        rows=_merged([*headline(start), *spent(result), ("written to", str(start["out"]))]),
        texts=texts,
        data=data_sheet(start["data"], finish.get("training")),
        table=results(result),
        figures=figures(start, read_jsonl(finish["curves"])),
        kept=" ".join(text for _, text in kept(result)),
        drift=drift_figures(result),
        drawings=drawings(finish.get("drawn")),
        neighbours=neighbours(finish.get("neighbours"), classes),
        maps=maps(finish.get("features"), classes),
        confusion=None if confusion is None else _confusion(confusion, classes),
        sheets=answers(finish.get("samples") or (), classes, pictures),
        weights=plain(start.get("weights")),
        config=list(_flat(plain(start["config"]))),
        versions=result.get("versions") or {},
        costs=_costs(start, result),
        again=_again(start, result),
        next=[str(n) for n in finish.get("next") or ()],
    )


def study_page(study: Mapping[str, Any]) -> str:
    """The page of a study from the data of its `study` event."""
    from tlx_report.figures import bars

    rows, metric = [plain(r) for r in study["rows"]], str(study.get("metric") or "accuracy")
    known = [r for r in rows if isinstance(r.get("test"), int | float)]
    links = {}
    for r in rows:
        name = str(r["variant"])
        if (Path(study["out"]) / name / "report.html").exists():
            links[name] = quote(f"{name}/report.html")
    where = "domain" if known and all("domain" in r for r in known) else "test"
    bars_of = [{**r, "test": r[where]} for r in known]
    percent = in_percent(metric)
    chart = bars(bars_of, f"{where} {metric}", "bars", percent=percent) if known else ""
    return _rendered(
        "study.html",
        title=str(study["name"]),
        text=str(study["text"]),
        table=comparison(study),
        chart=chart,
        links=links,
        next=[str(n) for n in study.get("next") or ()],
    )


def sweep_page(sweep: Mapping[str, Any]) -> str:
    """The page of a sweep from the data of its `sweep` event."""
    return _rendered(
        "sweep.html",
        title=str(sweep["name"]),
        text=sweep_outcome(sweep),
        charts=paths(sweep, percent=in_percent(str(sweep["metric"]))),
        table=points(sweep),
        next=[str(n) for n in sweep.get("next") or ()],
    )


def rank_page(ranked: Mapping[str, Any]) -> str:
    """The page of a ranking from the data of its `rank` event."""
    from tlx_report.ranking import matrices, panels

    return _rendered(
        "rank.html",
        title=f"Sources for {ranked['target']}",
        text=" ".join([str(ranked["text"]), *map(str, ranked.get("notes") or ())]),
        charts=panels(ranked),
        caption=rank_table.caption(ranked),
        table=rank_table.scores(ranked),
        unavailable=rank_table.unavailable(ranked),
        sources=rank_table.sources(ranked),
        matrices=matrices(ranked),
        next=[],
    )


def audit_page(audit: Mapping[str, Any]) -> str:
    """The page of an audit from the data of its `audit` event."""
    return _rendered(
        "audit.html",
        title=str(audit["name"]),
        text=str(audit["text"]),
        advice=[str(text) for text in audit["advice"]],
        curve=by_labels(audit),
        settings=arms_of(audit),
        seeds=audit["seeds"],
        resplit=audit["resplit"],
        crossed=all(setting.get("crossed") for setting in audit["settings"]),
        next=[str(n) for n in audit.get("next") or ()],
    )


def _rendered(template: str, **values: Any) -> str:
    import jinja2

    loader = jinja2.PackageLoader("tlx_report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _write(folder: Path, page: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "report.html.part"
    part.write_text(page, encoding="utf-8")
    os.replace(part, folder / "report.html")


def _tiles(start: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers that a reader looks for first, as (number, what it is)."""
    tiles = []
    metric = (start.get("selection") or ("accuracy",))[0]
    wanted = [("test", metric), ("val", metric), ("val", "knn_accuracy"), ("val", "probe_accuracy")]
    for split, name in dict.fromkeys(wanted):
        value = (result.get(split) or {}).get(name)
        if value is not None:
            tiles.append((shown(name, value), f"{split} {name.replace('_', ' ')}"))
    tiles.append((shown("", start["trainable"]), "trained parameters"))
    if result.get("seconds") is not None:
        compiling = result.get("compile_seconds")
        part = f", {duration(float(compiling))} of it compiling" if compiling else ""
        tiles.append((duration(float(result["seconds"])), f"in all{part}"))
    return tiles


def _costs(start: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run took, and on what."""
    seconds, compiling = result.get("seconds"), result.get("compile_seconds")
    steps, skipped = result.get("steps"), result.get("skipped")
    out = f", {shown('', skipped)} of them left out" if skipped else ""
    found = [
        ("time", seconds and duration(float(seconds))),
        ("compiling", compiling and duration(float(compiling))),
        ("steps", steps and f"{shown('', steps)}{out}"),
        ("trained", f"{shown('', start['trainable'])} of {shown('', start['total'])} parameters"),
        ("device", str(start["device"])),
        ("date", result.get("date")),
    ]
    return [(label, str(text)) for label, text in found if text]


def _again(start: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How to run it again, as (command or number, what it is)."""
    run_file = Path(start["out"]) / "run.toml"
    rows = [(f"tlx run {run_file} --out ELSEWHERE", "the same run, every default written out")]
    if result.get("seed") is not None:
        rows.append((str(result["seed"]), "the seed of the head, of the order and of dropout"))
    if sha256 := (start.get("weights") or {}).get("sha256"):
        rows.append((str(sha256), "SHA-256 of the weights"))
    return rows


def _confusion(confusion: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Rows of (class, cells of count, share of its row, on the diagonal), a picture instead
    where there are many classes, and the most frequent confusions in words."""
    from tlx_report.pictures import heatmap

    counts = np.asarray(confusion)
    if np.all(counts == np.rint(counts)):  # sums of weights come as floats
        counts = counts.astype(np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [class_name(i, classes) for i in range(len(counts))]
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None)[:5]]
    pairs = [
        (shown("", wrong[t, p]), shown("", counts[t].sum()), names[t], names[p])
        for t, p in order
        if wrong[t, p] > 0
    ]
    rows = [
        (names[t], [(shown("", c), float(s), t == p) for p, (c, s) in enumerate(cells)])
        for t, cells in enumerate(
            zip(row, share, strict=True) for row, share in zip(counts, shares, strict=True)
        )
    ]
    few = len(counts) <= ANNOTATED
    return {
        "names": names,
        "rows": rows if few else None,
        "picture": None if few else heatmap(shares),
        "pairs": pairs,
    }


def _merged(rows: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for label, text in rows:
        merged.setdefault(label, []).append(text)
    return merged


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of a run file; tables in arrays are numbered from 0."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{i}")
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield path, text
