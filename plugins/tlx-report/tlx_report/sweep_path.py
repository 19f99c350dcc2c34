"""The path of a sweep: what validation says along one axis, a line for each value of the others.

Of a divergence's weight this is the lambda path: how much of the source to keep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlx_report.figures import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 6
"""More lines than this are one: the best of all other values."""


def paths(sweep: Mapping[str, Any], *, percent: bool) -> list[tuple[str, str]]:
    """(key, drawing) for each axis of numbers in the data of a `sweep` event."""
    keys = [axis["key"] for axis in sweep["axes"] if len(_numbers(sweep, axis["key"])) > 1]
    return [(key, _path(sweep, key, percent)) for key in keys]


def _path(sweep: Mapping[str, Any], key: str, percent: bool) -> str:
    logarithmic = next(axis["log"] for axis in sweep["axes"] if axis["key"] == key)
    lines = _lines(sweep, key)

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        for number, (label, points) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            x, mean = [p[0] for p in points], [p[1] for p in points]
            ax.plot(x, mean, "o-", ms=3, color=colour, label=label)
            low, high = ([p[1] + sign * p[2] for p in points] for sign in (-1, 1))
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
