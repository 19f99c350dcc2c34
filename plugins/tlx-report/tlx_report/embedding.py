"""Features of many dimensions as a map of two, before and after training.

t-SNE (van der Maaten and Hinton 2008, "Visualizing data using t-SNE", JMLR 9) lays examples out
so that those with similar features are near each other. It keeps neighbourhoods and no distances:
the size of a group and the gap between two mean nothing, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.reporting.wording import shown
from tlx_report.figures import COLOURS, drawn
from tlx_report.sheets import class_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 10
"""Of fewer examples there is no map."""
NAMED = 20
"""A legend names at most this many classes; more colours than that cannot be told apart."""


def tsne(features: np.ndarray) -> np.ndarray:
    """Places (N,2) of features (N,D), N at least `FEWEST`, D at least 2; the same every time."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(features) - 1) / 3)
    with threadpool_limits(1):  # threads that share a busy processor take ten times as long
        return TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(features)


def maps(features: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """`panels` (heading, svg, or '' and why there is none), how many `examples`, whether they are
    `coloured` by their labels, a `legend` of (colour, name) of at most `NAMED` classes, and a
    `note` that stands instead of all this where there are too few examples."""
    if features is None:
        return None
    count, labels = len(features["after"]), features.get("labels")
    if count < FEWEST:
        note = f"There is no map of features: it takes {FEWEST} examples, and there are {count}."
        return {"panels": [], "legend": [], "note": note}
    kinds, which = np.unique(
        np.zeros(count, int) if labels is None else np.asarray(labels), return_inverse=True
    )
    colours = _colours(len(kinds))
    legend = [(c, class_name(kind, classes)) for c, kind in zip(colours, kinds, strict=True)]
    return {
        "panels": [
            _panel(heading, np.asarray(features[key], np.float32), key, [colours[i] for i in which])
            for heading, key in (("Before training", "before"), ("After training", "after"))
        ],
        "legend": legend if labels is not None and len(kinds) <= NAMED else [],
        "examples": shown("", count),
        "note": "",
        "coloured": labels is not None,
    }


def _panel(
    heading: str, features: np.ndarray, name: str, colours: Sequence[str]
) -> tuple[str, str, str]:
    if not np.all(np.isfinite(features)):
        return heading, "", "No map: there are features that are not finite."
    if features.shape[1] < 2:
        return heading, "", "No map: the features have one dimension."
    if not np.ptp(features, axis=0).any():
        return heading, "", "No map: the features are the same for every picture."
    x, y = tsne(features).T

    def draw(ax: Axes) -> None:
        ax.scatter(x, y, s=min(36, 350 / len(x) ** 0.5), c=list(colours), alpha=0.85, linewidths=0)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_axis_off()

    return heading, drawn(draw, name, (4.6, 4.2)), ""


def _colours(count: int) -> list[str]:
    """As many colours as there are classes, the page's own where there is one."""
    import matplotlib
    from matplotlib.colors import to_hex

    if count <= len(COLOURS) - 1:
        return list(COLOURS[:count])
    if count <= NAMED:
        table = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
        return [to_hex(table(i)) for i in range(count)]
    hue = matplotlib.colormaps["turbo"]  # without its ends, which are as dark as a dark page
    return [to_hex(hue(0.1 + 0.8 * i / (count - 1))) for i in range(count)]
