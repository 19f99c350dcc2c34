"""How far each stage of a backbone has gone from its source, and how alike its features are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlx_report.figures import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drift_figures(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(heading, svg, what it shows) of a run's result; none where nothing of a source moved."""
    found = result.get("forgetting") or {}
    if "cka" not in found:
        return []
    stages = {name: value for name, value in found["drift"].items() if name != "backbone"}
    panels = [(
        "How far each stage has moved", stages, "relative L2 distance",
        "‖w − w₀‖ / ‖w₀‖ of the parameters that were loaded.",
    )]  # fmt: skip
    if found["cka"]:
        panels.append((
            "How alike its features still are", found["cka"], "CKA with the source",
            f"Linear CKA, unbiased, on {found['examples']} test pictures: 1 is the same up to "
            f"rotation and scale, 0 unrelated.",
        ))  # fmt: skip
    return [
        (heading, _bars(values, label, f"drift{number}"), note)
        for number, (heading, values, label, note) in enumerate(panels)
        if values
    ]


def _bars(values: Mapping[str, Any], label: str, name: str) -> str:
    """A bar for each, shallow to deep from the top."""

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import PercentFormatter

        places = list(range(len(values)))[::-1]
        ax.barh(places, [float(v) for v in values.values()], height=0.62, color=COLOURS[0])
        ax.set_yticks(places, list(values))
        ax.set_xlabel(label)
        if label.startswith("CKA"):
            ax.set_xlim(min(0.0, *map(float, values.values())), 1)
        else:
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))

    return drawn(draw, name, (4.6, 0.9 + 0.26 * len(values)))
