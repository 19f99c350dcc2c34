"""What a sweep has found: a line for each finished point, kept on disk, and which one is best.

A point is the mean over its seeds; one in which a seed diverged is never chosen.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.errors import DivergedError
from tlx.studies.comparison import half_width
from tlx.studies.sweep_space import Point

DOMAIN = "domain/"
"""Before the metrics that are of the domain's test pictures."""


class Found:
    """The finished points of a sweep, by what they are; `path` holds a line for each."""

    def __init__(self, path: Path, metric: str, direction: str) -> None:
        self.path, self.metric, self.direction = path, metric, direction
        self._known: dict[str, dict[str, Any]] = {}
        read = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in map(self._line, read.splitlines()):
            if line is not None:  # or cut off when the sweep was stopped: it is trained again
                self._known[key(line["point"])] = line

    def _line(self, text: str) -> dict[str, Any] | None:
        """A line as `add` writes it; None for any other."""
        try:
            line = json.loads(text)
            names = self.metric, "loss"
            numbers = [v[name] for v in line["val"] if v is not None for name in names]
            kept = [line["kept"]["moved"]] if "kept" in line else []
            sound = all(isinstance(n, int | float) for n in (*numbers, *kept))
            return line if sound and line["val"] and isinstance(line["point"], dict) else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def __contains__(self, point: Point) -> bool:
        return key(point) in self._known

    def __len__(self) -> int:
        return len(self._known)

    def add(
        self,
        point: Point,
        val: Sequence[Mapping[str, float] | None],
        forgotten: Sequence[Mapping[str, Any] | None] = (),
    ) -> None:
        """Keep a point's metrics on validation, one of each seed, None where it diverged; and what
        its runs have forgotten, where that was measured."""
        line = {"point": dict(point), "val": [None if v is None else dict(v) for v in val]}
        if measured := [found for found in forgotten if found]:
            line["kept"] = _kept(measured)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._known[key(point)] = line

    def values(self, point: Point) -> list[float]:
        """The metric with each seed; NaN where it diverged."""
        val = self._known[key(point)]["val"]
        return [math.nan if found is None else found[self.metric] for found in val]

    def row(self, point: Point) -> dict[str, Any]:
        """A point as `tlx.sinks` lists it."""
        values, val = self.values(point), self._known[key(point)]["val"]
        whole = all(map(math.isfinite, values))
        return {
            "point": dict(point),
            "mean": statistics.fmean(values) if whole else None,
            "half": half_width(values) if whole else None,
            "loss": statistics.fmean(found["loss"] for found in val) if whole else None,
            "values": [v if math.isfinite(v) else None for v in values],
            **({"kept": found} if (found := self._known[key(point)].get("kept")) else {}),
        }

    def best(self, points: Sequence[Point] | None = None) -> Point:
        """The point (of all, or of these) with the best mean; the lower loss decides between
        equals. Raises DivergedError where every point diverged."""
        lines = self._known.values() if points is None else [{"point": p} for p in points]
        rows = [self.row(line["point"]) for line in lines]
        fit = [row for row in rows if row["mean"] is not None]
        if not fit:
            raise DivergedError(
                "Every point of the sweep diverged. Go over lower learning rates or weights."
            )
        sign = 1 if self.direction == "max" else -1
        return max(fit, key=lambda row: (sign * row["mean"], -row["loss"]))["point"]

    def is_best(self, point: Point) -> bool:
        """Whether no other point is better so far."""
        return self.row(point)["mean"] is not None and key(self.best()) == key(point)


def _kept(forgotten: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of what `tlx.reporting.forgetting` found: `moved`, how far the backbone
    has gone, `agreement` of the source's head, and `source`, its own `metric` now, with
    `before`."""
    found: dict[str, Any] = {"moved": statistics.fmean(f["drift"]["backbone"] for f in forgotten)}
    if all("agreement" in each for each in forgotten):
        found["agreement"] = statistics.fmean(each["agreement"] for each in forgotten)
    if all("source" in each for each in forgotten):
        own = forgotten[0]["source"]
        found["source"] = statistics.fmean(each["source"]["after"] for each in forgotten)
        found |= {name: own[name] for name in ("name", "metric", "direction", "before")}
    return found


def key(point: Point) -> str:
    """What a point is, as text."""
    return json.dumps(dict(point), sort_keys=True)


def over_seeds(tested: Sequence[Mapping[str, float]], metric: str) -> dict[str, Any]:
    """What the chosen point came to with every seed: {`test`: {metric: mean, `half`?, `values`}},
    and the same of the `domain` where it was tested there."""
    found = {}
    for split, name in (("test", metric), ("domain", f"{DOMAIN}{metric}")):
        if values := [each[name] for each in tested if name in each]:
            mean = statistics.fmean(values)
            found[split] = {metric: mean, "half": half_width(values), "values": values}
    return found
