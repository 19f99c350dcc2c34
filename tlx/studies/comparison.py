"""Several results beside each other: a table's rows, and one honest sentence.

Shares come with Wilson intervals, differences of shares with Newcombe's. Where some variants
start from a source and some from random weights, the sentence says whether the source helped.
Opens without importing jax.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tlx.errors import listed
from tlx.numerics.shares import difference, wilson

TEST = "the test split"
Results = Mapping[str, Mapping[str, Any]]
"""Variant name -> what its `result.json` holds."""


def ranked(results: Results, metric: str, direction: str, split: str) -> list[str]:
    """The variants, best on `split` first."""
    return sorted(
        results, key=lambda name: results[name][split][metric], reverse=direction == "max"
    )


def compared_on(results: Results) -> str:
    """What the variants are compared on, in words: the test split of the domain where each of them
    was tested on the same one, since that is what a run with a [domain] is about."""
    domains = [result.get("domain") or {} for result in results.values()]
    names = {domain.get("name") if domain.get("test") else None for domain in domains}
    name = names.pop() if len(names) == 1 else None
    return TEST if name is None else f"the test pictures of the domain {name}"


def measured(result: Mapping[str, Any], metric: str, where: str) -> tuple[float, int]:
    """The metric where `compared_on` says, and of how many examples."""
    if where == TEST:
        return result["test"][metric], result["examples"]["test"]
    return result["domain"]["test"][metric], result["domain"]["examples"]


def row(name: str, result: Mapping[str, Any], metric: str, where: str = TEST) -> dict[str, Any]:
    """One variant in a table; `low` and `high` bound an accuracy where variants are compared."""
    value, count = measured(result, metric, where)
    found = {
        "variant": name,
        **({} if where == TEST else {"domain": value}),
        "test": result["test"][metric],
        "val": result["val"][metric],
        "trained_parameters": result["trainable_parameters"],
        "seconds": result["seconds"],
    }
    if metric == "accuracy":
        found["low"], found["high"] = wilson(value, count)
    return found


def sentence(results: Results, metric: str, direction: str) -> str:
    """What came out. The variants that are compared are chosen on validation: the best that
    starts from a source with the best that does not, or else the best two."""
    order, where = ranked(results, metric, direction, "val"), compared_on(results)
    if len(order) == 1:  # the others failed
        value, _ = measured(results[order[0]], metric, where)
        return f"{order[0]} {_said(value, metric)} on {where}, with nothing beside it."
    from_source = [name for name in order if results[name]["weights"]]
    from_random = [name for name in order if not results[name]["weights"]]
    about_source = bool(from_source and from_random)
    first, second = (from_source[0], from_random[0]) if about_source else order[:2]
    (ours, count), (theirs, _) = (
        measured(results[name], metric, where) for name in (first, second)
    )
    gain = ours - theirs if direction == "max" else theirs - ours
    said = f"{first} {_said(ours, metric)}, {second} {_said(theirs, metric)} on {where}"
    sure = gain != 0
    if metric == "accuracy":
        low, high = difference(ours, count, theirs, count)
        sure = not low <= 0 <= high
        said += f", {100 * gain:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    if about_source:
        verdict = "The source helps" if gain > 0 else "The source does not help, it hurts"
        unsure = "These results cannot tell whether the source helps"
    else:
        verdict = f"{first if gain > 0 else second} is ahead"
        unsure = f"{first} and {second} cannot be told apart"
    return f"{verdict if sure else unsure}: {said}. One seed each."


def outcome(results: Results) -> str:
    """What the last of several stages came to; stage -> what its `result.json` holds."""
    *earlier, name = results
    last = results[name]
    metric, _ = last["selection"]
    where = compared_on({name: last})
    value, count = measured(last, metric, where)
    said = f"{name} ends at {'' if metric == 'accuracy' else f'a {metric} of '}"
    said += f"{_said(value, metric)} on {where}"
    if metric == "accuracy":
        low, high = (_said(end, metric) for end in wilson(value, count))
        said += f" (95 % interval {low} to {high})"
    if not earlier:
        return f"{said}. One seed."
    asks = f'; a variant with weights = "none" says whether {earlier[-1]} helped'
    return f"{said}, after {listed(earlier)}. One seed{asks if last['weights'] else ''}."


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of a mean (Student's t); None for a single value."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # heavy, and not needed to open this file

    deviation = statistics.stdev(values)
    return float(stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values))


def _said(value: float, metric: str) -> str:
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.4g}"
