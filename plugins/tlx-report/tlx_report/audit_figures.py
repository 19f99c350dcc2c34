"""The arms of an audit as bars, and over label counts as curves.

A whisker or a band is the 95 % interval of a mean over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tlx.numerics.shares import within
from tlx.reporting.wording import arms, in_percent
from tlx.studies import audit_arms, verdict
from tlx_report.figures import COLOURS, bars, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def arms_of(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each setting its `heading`, `text`, `chart`, `table`, and `links` from an arm to the
    report of its first seed."""
    return [_setting(audit, number) for number in range(len(audit["settings"]))]


def _setting(audit: Mapping[str, Any], number: int) -> dict[str, Any]:
    setting = audit["settings"][number]
    metric, count = str(setting["metric"]), setting["labels"]
    rows: list[dict[str, Any]] = [
        {"variant": row["arm"], "test": row["test"]}
        | ({} if row["half"] is None else _whisker(row["test"], row["half"], metric))
        for row in setting["arms"]
    ]  # fmt: skip
    folder = audit_arms.folder(Path(audit["out"]), count)
    links = {}
    for row in rows:
        report = folder / row["variant"] / "seed-0" / "report.html"
        if report.exists():
            links[row["variant"]] = quote(report.relative_to(audit["out"]).as_posix())
    return {
        "heading": "The arms" if count is None else f"With {verdict.worded(count)}",
        "text": str(setting.get("text") or ""),
        "chart": bars(rows, f"test {metric}", f"arms{number}", percent=in_percent(metric)),
        "table": arms(setting),
        "links": links,
    }


def _whisker(mean: float, half: float, metric: str) -> dict[str, float]:
    low, high = mean - half, mean + half
    low, high = within(low, high) if in_percent(metric) else (low, high)
    return {"low": low, "high": high}


def by_labels(audit: Mapping[str, Any]) -> str:
    """Test metric of every arm over label counts; '' where there is one count."""
    settings = audit["settings"]
    if len(settings) < 2:
        return ""
    metric = str(audit["metric"])
    names = [row["arm"] for row in settings[0]["arms"]]
    places = list(range(len(settings)))

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        for number, name in enumerate(names):
            rows = [next(r for r in s["arms"] if r["arm"] == name) for s in settings]
            colour = COLOURS[number % len(COLOURS)]
            means, halves = [r["test"] for r in rows], [r["half"] or 0 for r in rows]
            ax.plot(places, means, "o-", ms=3.5, color=colour, label=name)
            ends = [_whisker(*pair, metric) for pair in zip(means, halves, strict=True)]
            low, high = ([end[side] for end in ends] for side in ("low", "high"))
            ax.fill_between(places, low, high, color=colour, alpha=0.13, lw=0)
        ax.set_xticks(places, [str(s["labels"]) for s in settings])
        ax.set_xlabel("labels of each class")
        ax.set_ylabel(f"test {metric}")
        if in_percent(metric):
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.legend(frameon=False, fontsize=8)

    return drawn(draw, "labels", (6.4, 3.4))
