"""The path of a sweep: what validation says along one axis, a line for each value of the others.

Of a divergence's weight this is the lambda path: how much of the source to keep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlx.numerics.shares import within
from tlx.reporting.wording import in_percent, kept_measures
from tlx_report.figures import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 6
"""More lines than this are one: the best of all other values."""


def paths(sweep: Mapping[str, Any], *, percent: bool) -> list[tuple[str, str]]:
    """(key, drawing) for each axis of numbers in the data of a `sweep` event."""
    keys = [axis["key"] for axis in sweep["axes"] if len(_numbers(sweep, axis["key"])) > 1]
    drawings = [(key, _path(sweep, key, percent)) for key in keys]
    return [*drawings, *(("frontier", svg) for svg in [frontier(sweep, percent=percent)] if svg)]


def frontier(sweep: Mapping[str, Any], *, percent: bool) -> str:
    """The target's metric against what was kept of the source, a dot for each point; the line goes
    through those that no other beats in both. '' where nothing of the source moved."""
    measures = kept_measures(sweep)
    rows = [r for r in sweep["points"] if r["mean"] is not None and r.get("kept")]
    if not measures or len(rows) < 2 or not any(r["kept"]["moved"] for r in rows):
        return ""
    heading, key, metric = measures[0]
    moved = key == "moved"
    lower = moved or (key == "source" and rows[0]["kept"]["direction"] == "min")
    along, up = -1 if lower else 1, 1 if sweep["direction"] == "max" else -1
    dots = [(r["kept"][key], r["mean"], r["point"]) for r in rows]
    best = [
        (x, y) for x, y, _ in dots
        if not any(
            along * a >= along * x and up * b >= up * y and (a, b) != (x, y) for a, b, _ in dots
        )
    ]  # fmt: skip

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        ax.plot(*zip(*sorted(best), strict=True), color=COLOURS[0], lw=1.2, alpha=0.6)
        for x, y, point in dots:
            chosen = point == sweep["chosen"]
            ax.plot([x], [y], "o", ms=6 if chosen else 4, color=COLOURS[1 if chosen else 0])
            name = ", ".join(f"{v:.3g}" if _is_number(v) else str(v) for v in point.values())
            ax.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
        if lower:
            ax.invert_xaxis()
        if moved or in_percent(metric):
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        if percent:
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        ax.margins(0.12)
        ax.set_xlabel(f"{heading} (more is kept to the right)")
        ax.set_ylabel(f"val {sweep['metric']}")

    return drawn(draw, "frontier", (5.6, 3.4))


def _path(sweep: Mapping[str, Any], key: str, percent: bool) -> str:
    logarithmic = next(axis["log"] for axis in sweep["axes"] if axis["key"] == key)
    lines = _lines(sweep, key)

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        for number, (label, points) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            x, mean = [p[0] for p in points], [p[1] for p in points]
            ax.plot(x, mean, "o-", ms=3, color=colour, label=label)
            ends = [(p[1] - p[2], p[1] + p[2]) for p in points]
            low, high = zip(*(within(*e) if percent else e for e in ends), strict=True)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        if logarithmic:
            ax.set_xscale("log")
        if percent:
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.axvline(sweep["chosen"][key], color="0.4", lw=0.8, ls="--")
        ax.set_xlabel(key)
        ax.set_ylabel(f"val {sweep['metric']}")
        if len(lines) > 1:
            ax.legend(fontsize=7, frameon=False)

    return drawn(draw, f"path-{key}")


def _lines(sweep: Mapping[str, Any], key: str) -> dict[str, list[tuple[float, float, float]]]:
    """Label -> (value, mean, half width of the interval or 0), by value."""
    found: dict[str, dict[float, Mapping[str, Any]]] = {}
    for row in _rows(sweep, key):
        rest = {k: v for k, v in row["point"].items() if k != key}
        label = ", ".join(f"{k} {v}" for k, v in rest.items())
        found.setdefault(label, {})[row["point"][key]] = row
    if len(found) > LINES or any(len(line) == 1 for line in found.values()):
        found = {"best of the others": _best(sweep, key)}
    return {
        label: [(x, row["mean"], row["half"] or 0.0) for x, row in sorted(line.items())]
        for label, line in found.items()
    }


def _best(sweep: Mapping[str, Any], key: str) -> dict[float, Mapping[str, Any]]:
    sign = 1 if sweep["direction"] == "max" else -1
    rows = sorted(_rows(sweep, key), key=lambda row: sign * row["mean"])
    return {row["point"][key]: row for row in rows}  # of equal values the last, the best, stays


def _rows(sweep: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    return [
        row for row in sweep["points"]
        if row["mean"] is not None and math.isfinite(row["mean"]) and _is_number(row["point"][key])
    ]  # fmt: skip


def _numbers(sweep: Mapping[str, Any], key: str) -> set[str]:
    return {json.dumps(row["point"][key]) for row in _rows(sweep, key)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
