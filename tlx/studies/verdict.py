"""Did the transfer help? From the arms of an audit to a sentence, and to what to do next.

The arm that is held against random weights is the one that validation prefers; the test split
takes no part in that choice. The sentence says what was seen, how sure that is, and where nothing
was seen, how large a difference would have been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.numerics.paired import SURE, Layout, Paired, over_seeds, paired
from tlx.reporting.wording import in_percent, shown, size
from tlx.studies.audit_arms import SCRATCH, Labels

HELPS, UNCLEAR, HURTS = "helps", "no evidence", "hurts"
LEAST = 0.005
"""A difference below this is not worth more seeds."""
MOST_SEEDS, MORE = 30, (2, 3, 5, 10, 20, 50, 100)
"""More seeds are not asked for; so many times the test examples are."""


class Arm(NamedTuple):
    """One way of training with every seed: metrics on `val` and `test`, one a seed; `right` (S,N)
    of the same N test examples, None where the metric is no share of them or they differ."""

    val: Sequence[float]
    test: Sequence[float]
    right: np.ndarray | None
    loss: float = 0.0


class Compared(NamedTuple):
    """An arm held against another; positive where it is better."""

    paired: Paired
    layout: Layout | None


def compared(ours: Arm, theirs: Arm, direction: str) -> Compared:
    """By seeds and examples where both are known, else by seeds."""
    if ours.right is not None and theirs.right is not None:
        return Compared(*paired(ours.right, theirs.right))
    sign = 1 if direction == "max" else -1
    differences = [sign * (a - b) for a, b in zip(ours.test, theirs.test, strict=True)]
    return Compared(over_seeds(differences), None)


def preferred(arms: Mapping[str, Arm], direction: str) -> str:
    """The arm that starts from the source and is best on validation; the lower loss there decides
    between equals."""
    sign = 1 if direction == "max" else -1
    names = [name for name in arms if name != SCRATCH]
    return max(names, key=lambda name: (sign * np.mean(arms[name].val), -arms[name].loss))


def judged(arms: Mapping[str, Arm], metric: str, direction: str) -> dict[str, Any]:
    """The verdict on arms that were trained alike, one of them `scratch`; `crossed`: whether the
    interval knows seeds and examples, or seeds alone."""
    best = preferred(arms, direction)
    found, layout = compared(arms[best], arms[SCRATCH], direction)
    sure = found.p < SURE and abs(found.mean) > found.half
    verdict = UNCLEAR if not sure else HELPS if found.mean > 0 else HURTS
    return {
        "verdict": verdict,
        "best": best,
        "gain": found.mean,
        "half": finite(found.half),
        "p": found.p,
        "visible": finite(found.visible),
        "crossed": layout is not None,
        "text": _sentence(arms, best, found, verdict, metric),
        "advice": _advice(arms, best, found, layout, verdict, metric),
    }


def _sentence(
    arms: Mapping[str, Arm], best: str, found: Paired, verdict: str, metric: str
) -> str:  # fmt: skip
    ours, theirs = (float(np.mean(arms[name].test)) for name in (best, SCRATCH))
    values = f"{best} {shown(metric, ours)}, {SCRATCH} {shown(metric, theirs)}"
    right = arms[best].right
    examples = "" if right is None else f", the same {shown('', right.shape[1])} test examples"
    basis = f"{len(arms[best].test)} seeds{examples}, p {_p(found.p)}"
    by = f"{amount(abs(found.mean), metric)} ± {amount(found.half, metric)}{unit(metric)}"
    if verdict == HELPS:
        return f"The transfer helps by {by}: {values} ({basis})."
    if verdict == HURTS:
        return f"The transfer hurts by {by} (negative transfer): {values} ({basis})."
    seen = (
        f" A difference of {amount(found.visible, metric)}{unit(metric)} would have been seen four "
        f"times in five."
        if math.isfinite(found.visible)
        else ""
    )
    sign = "+" if found.mean >= 0 else "−"
    return f"There is no evidence either way: {values}, {sign}{by} ({basis}).{seen}"


def _advice(
    arms: Mapping[str, Arm], best: str, found: Paired, layout: Layout | None, verdict: str,
    metric: str,
) -> list[str]:  # fmt: skip
    values = {name: shown(metric, float(np.mean(arm.test))) for name, arm in arms.items()}
    if verdict == HURTS:
        return [
            f"Of what was measured take {SCRATCH} ({values[SCRATCH]}; {best} {values[best]}), or "
            f"look for another source: 'tlx rank' orders sources for your data."
        ]
    if verdict == HELPS:
        return [f"Of what was measured take {best} ({values[best]})."]
    return [_more(arms, best, found, layout, metric)]


def _more(
    arms: Mapping[str, Arm], best: str, found: Paired, layout: Layout | None, metric: str
) -> str:
    """What would decide it, with a number."""
    seeds, wanted = len(arms[best].test), abs(found.mean)
    if in_percent(metric) and wanted < LEAST:
        return (
            f"The two are alike within {amount(found.half, metric)}{unit(metric)}. Where that is "
            f"near enough, take the one that is cheaper to train; with fewer labels the source may "
            f"matter more: --labels."
        )
    what = f"to see a difference of {amount(wanted, metric)}{unit(metric)} four times in five"
    if layout is not None:
        if count := _seeds(layout, wanted, seeds + 1, 1):
            return f"More seeds would decide it: about {count} {what} (--seeds {count})."
        for times in MORE:
            if count := _seeds(layout, wanted, seeds, times):
                many = shown("", int(float(f"{times * layout.examples:.2g}")))
                return (
                    f"More seeds alone would not decide it: it takes about {many} test examples "
                    f"and {count} seeds {what}."
                )
    elif math.isfinite(found.visible) and wanted > 0:
        count = math.ceil(seeds * (found.visible / wanted) ** 2)
        if count <= MOST_SEEDS:
            return f"More seeds would decide it: about {count} {what} (--seeds {count})."
    return "Neither more seeds nor more test examples in reach would decide it: take the cheaper."


def _seeds(layout: Layout, wanted: float, least: int, times: int) -> int | None:
    """The fewest seeds that show such a difference with so many times the test examples."""
    for seeds in range(least, MOST_SEEDS + 1):
        if layout.of(seeds, times * layout.examples).tested(0).visible <= wanted:
            return seeds
    return None


def catching_up(verdicts: Sequence[tuple[Labels, str]]) -> tuple[Labels, str]:
    """From which label count on the transfer no longer helps, None where there is none, and the
    sentence; the verdicts by labels of each class, the fewest first."""
    last = [number for number, (_, verdict) in enumerate(verdicts) if verdict == HELPS]
    if not last:
        return verdicts[0][0], "At no label count that was tried does the transfer help."
    if last[-1] == len(verdicts) - 1:
        return None, f"With {worded(verdicts[-1][0])} scratch has not caught up."
    count = verdicts[last[-1] + 1][0]
    return count, f"Scratch catches up: from {worded(count)} on the transfer no longer helps."


def worded(count: Labels) -> str:
    """A label count in words."""
    return "all labels" if count == "all" else f"{count} labels a class"


def amount(value: float, metric: str) -> str:
    """A difference of a metric, without its unit."""
    return size(metric, finite(value))


def unit(metric: str) -> str:
    """What follows an amount."""
    return " points" if in_percent(metric) else f" of {metric}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def finite(value: float) -> float | None:
    """None for what JSON cannot hold."""
    return value if math.isfinite(value) else None
