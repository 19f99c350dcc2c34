"""A ranking of sources as pictures: a panel for each score, a square for each measure of likeness.

A panel has a line for each source with its interval; what cannot be told from the first is drawn
like it, what can be is grey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.selection.rank_table import ordered
from tlx_report.figures import COLOURS, INK, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRITTEN = 12
"""A matrix of at most so many rows has its numbers written into it."""


def panels(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(score, `<svg>`) for each score of the data of a `rank` event; sources in the order of the
    score that decides, so that a line is the same source in every panel."""
    tables = [table for table in ordered(result) if table["rows"]]
    first = [str(row["source"]) for row in tables[0]["rows"]] if tables else []
    others = [str(one["source"]) for one in result["sources"]]
    names = [*first, *(name for name in others if name not in first)]
    return [(str(one["score"]), _panel(one, names, f"rank{n}")) for n, one in enumerate(tables)]


def matrices(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(measure, `<svg>`, what it says) for each matrix."""
    return [
        (str(one["measure"]), _square(one, f"like{n}"), str(one["text"]))
        for n, one in enumerate(result["similarity"])
    ]


def _panel(table: Mapping[str, Any], names: Sequence[str], name: str) -> str:
    rows = {str(row["source"]): row for row in table["rows"]}

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator, ScalarFormatter

        if max(abs(row["value"]) for row in rows.values()) < 1e3:
            ax.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        else:
            ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_major_locator(MaxNLocator(4))
        places = {source: len(names) - n for n, source in enumerate(names)}
        for source, row in rows.items():
            behind = row["apart"] or (row["apart"] is None and row["rank"] > 1)
            colour, place = COLOURS[5] if behind else COLOURS[0], places[source]
            if row["low"] is not None:
                ax.plot((row["low"], row["high"]), (place, place), color=colour, lw=1.6)
            ax.plot(row["value"], place, "o", color=colour, ms=5)
        ax.set_yticks(list(places.values()), list(places))
        ax.set_ylim(0.4, len(names) + 0.6)
        ax.set_title(str(table["score"]), fontsize=9, loc="left")
        ax.grid(axis="x", color=INK, alpha=0.12, lw=0.6)

    return drawn(draw, name, (4.6, 0.8 + 0.26 * len(names)))


def _square(one: Mapping[str, Any], name: str) -> str:
    names, matrix = [str(n) for n in one["names"]], np.asarray(one["matrix"], np.float64)

    def draw(ax: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        blue = LinearSegmentedColormap.from_list("blue", ["#3b82c400", "#3b82c4ff"])
        top = float(np.nanmax(matrix, initial=0.0)) or 1.0
        ax.imshow(matrix, cmap=blue, vmin=0, vmax=max(top, 1e-12))
        for i, j in np.ndindex(matrix.shape):
            if len(names) <= WRITTEN and math.isfinite(matrix[i, j]):
                ax.text(j, i, f"{matrix[i, j]:.2g}", ha="center", va="center", fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set_title(str(one["measure"]), fontsize=9, loc="left")

    side = 1.6 + 0.5 * len(names)
    return drawn(draw, name, (side + 1.2, side))
