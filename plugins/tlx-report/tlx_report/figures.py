"""Curves and bars as SVG that sits inside of a page and takes on its colours.

Text and axes are drawn in a marker colour which becomes `currentColor`, so that a page in dark
mode stays readable; text stays text. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for the page's text colour; no line may be drawn in it for another reason."""
COLOURS = ("#3b82c4", "#d9782d", "#4d9e63", "#a06cc0", "#c05a5a", "#7a7f87")

Points = Sequence[tuple[float, float]]


def drawn(draw: Callable[[Axes], None], name: str, size: tuple[float, float] = (4.6, 2.7)) -> str:
    """The `<svg>` element of what `draw` puts on its axes. `size` in inches; `name` keeps the
    ids of several drawings on one page apart."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
        ),
    }
    file = io.StringIO()
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in letters that matplotlib's font does not have
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(
            file, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', svg, count=1).replace(
        ' height="', ' data-height="', 1
    )


def curves(
    lines: Mapping[str, Points],
    name: str,
    *,
    percent: bool = False,
    best: float | None = None,
    boundaries: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over training steps. Points that are not finite leave a gap. `best` marks the
    chosen step; `boundaries` (step, phase that begins there) are thin lines."""

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        for (label, points), colour in zip(lines.items(), _colours(len(lines)), strict=True):
            few = "o" if len(points) <= 30 else None
            ax.plot(*_xy(points), color=colour, lw=1.5, marker=few, ms=2.5, label=label)
        for step, phase in boundaries:
            ax.axvline(step, color=INK, lw=0.6, alpha=0.4, ls=":")
            at = ax.get_xaxis_transform()
            ax.text(step, 1.02, phase, transform=at, fontsize=7.5, va="bottom", alpha=0.7)
        if best is not None:
            ax.axvline(best, color=INK, lw=1, alpha=0.6, ls="--", label=f"chosen, step {best:,.0f}")
        if percent:
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel("step")
        ax.grid(axis="y", color=INK, alpha=0.12, lw=0.6)
        if len(lines) + (best is not None) > 1:
            ax.legend(frameon=False, fontsize=8, labelspacing=0.3)

    return drawn(draw, name)


def bars(rows: Sequence[Mapping[str, Any]], label: str, name: str, *, percent: bool) -> str:
    """One horizontal bar a row (`variant`, `test`, `low`?, `high`?), in the order given, from
    zero, with the interval as a whisker."""

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        places = list(range(len(rows)))[::-1]
        values = [_number(r.get("test")) for r in rows]
        ax.barh(places, values, height=0.62, color=COLOURS[0], alpha=0.85)
        for place, row in zip(places, rows, strict=True):
            low, high = _number(row.get("low")), _number(row.get("high"))
            if math.isfinite(low) and math.isfinite(high):
                ax.plot((low, high), (place, place), color=INK, lw=1.4)
                ax.plot((low, high), (place, place), color=INK, ls="", marker="|", ms=7)
        ax.set_yticks(places, [str(r["variant"]) for r in rows])
        ax.set_xlabel(label)
        if percent:
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.grid(axis="x", color=INK, alpha=0.12, lw=0.6)
        ax.set_axisbelow(True)

    return drawn(draw, name, (6.4, 0.9 + 0.34 * len(rows)))


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _xy(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y if math.isfinite(y) else math.nan for _, y in points]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
