"""A ranking as a person reads it: the sources, then every score with its order of them.

Made from the plain data that `tlx.rank` returns; the console and the report share it. Opens without
importing jax or numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlx.errors import listed
from tlx.reporting.wording import duration, shown


def sources(result: Mapping[str, Any]) -> list[list[str]]:
    """What the sources are, heading first."""
    titles = ["source", "parameters", "own accuracy", "own classes", "features", "time"]
    return [titles, *([
        str(one["source"]),
        shown("", one["parameters"]),
        shown("accuracy", one["accuracy"]),
        shown("", one["classes"]),
        shown("", one["features"]),
        "-" if one["seconds"] is None else _time(one["seconds"]),
    ] for one in result["sources"])]  # fmt: skip


def scores(result: Mapping[str, Any]) -> list[list[str]]:
    """Every score with its sources, best first, heading first; the one that decides leads."""
    table = [["score", "rank", "source", "value", "95 % interval", "behind the first", "time"]]
    for one in ordered(result):
        name = str(one["score"])
        for row in one["rows"]:
            table.append([
                name, str(row["rank"]), str(row["source"]), number(row["value"]), interval(row),
                _behind(row), _time(row["seconds"]),
            ])  # fmt: skip
            name = ""
        for none in one["unavailable"]:
            table.append([name, "-", str(none["source"]), "-", "-", "not available", ""])
            name = ""
    return table


def unavailable(result: Mapping[str, Any]) -> list[str]:
    """Why scores are not available, a sentence for each source and reason."""
    scores: dict[tuple[str, str], list[str]] = {}
    for one in ordered(result):
        for none in one["unavailable"]:
            scores.setdefault((none["source"], none["why"]), []).append(one["score"])
    return [f"{listed(names)} of {source}: {why}" for (source, why), names in scores.items()]


def ordered(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tables of the scores, the one that decides first."""
    return sorted(result["scores"], key=lambda one: one["score"] != result["by"])


def caption(result: Mapping[str, Any]) -> str:
    """What the numbers were made of."""
    counts = {row["halves"] for one in result["scores"] for row in one["rows"] if row["halves"]}
    halves = " or ".join(str(count) for count in sorted(counts))
    pictures = f"{result['pictures']:,} training pictures in {result['classes']} classes"
    if not counts:
        return f"{pictures}. Higher is better."
    return (
        f"{pictures}. Higher is better. An interval is 1.96 deviations over {halves} random halves "
        f"of the pictures either way, and differences are those on the same halves."
    )


def number(value: float) -> str:
    """A score: counts with separators, the rest with three decimals."""
    return shown("", int(value)) if value >= 1000 else f"{value:.3f}"


def interval(row: Mapping[str, Any]) -> str:
    """From where to where, '-' where there is none."""
    return "-" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"


def _time(seconds: float) -> str:
    return "under 0.1 s" if seconds < 0.1 else duration(seconds)


def _behind(row: Mapping[str, Any]) -> str:
    if row["behind"] == 0:
        return "" if row["rank"] == 1 and row["behind_half"] is None else "0"
    if row["behind_half"] is None:
        return number(row["behind"])
    unsure = "" if row["apart"] else ", not told apart"
    return f"{number(row['behind'])} ± {number(row['behind_half'])}{unsure}"


def matrix(similar: Mapping[str, Any]) -> list[list[str]]:
    """A matrix of similarity as a table."""
    names = [str(name) for name in similar["names"]]
    rows = zip(names, similar["matrix"], strict=True)
    return [
        [similar["measure"], *names],
        *([name, *(f"{value:.3f}" for value in row)] for name, row in rows),
    ]
