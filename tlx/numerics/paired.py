"""Is one way of training better than another, over seeds and the same test examples?

Both ways are trained with the same seeds and tested on the same examples, so that the differences
are paired. A difference may be an accident of the seeds or of the test examples; the interval
knows both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SURE, POWER = 0.05, 0.8
"""What p a difference is believed below, and how often one that can be seen is found."""


class Paired(NamedTuple):
    """The `mean` difference; `half` of its 95 % interval; `p` of a difference as large where there
    is none; `visible`: the smallest true difference that 80 % of repetitions would find. inf and 1
    where nothing can be said."""

    mean: float
    half: float
    p: float
    visible: float


class Layout(NamedTuple):
    """Mean squares of differences of `seeds` x `examples`, two ways, both random: between seeds,
    between examples, and what is left."""

    seeds: int
    examples: int
    between_seeds: float
    between_examples: float
    rest: float

    def tested(self, mean: float) -> Paired:
        """The t-test of a mean when seeds and examples are both drawn at random.

        The squared error (between_seeds + between_examples - rest) / (seeds * examples), never less
        than either way alone gives, with Satterthwaite's degrees of freedom: the test for readers
        x cases (Dorfman, Berbaum and Metz 1992, Invest. Radiol. 27; Hillis 2007, Statist. Med. 26).
        With one seed, what another would give stays unknown."""
        s, e = self.seeds - 1, self.examples - 1
        ways = [(square, free) for square, free in zip(self[2:4], (s, e), strict=True) if free]
        if not ways:
            return _tested(mean, math.inf, 1)
        square, free = max(ways)
        joint = self.between_seeds + self.between_examples - self.rest
        if s and e and joint > square:
            parts = zip(self[2:], (s, e, s * e), strict=True)
            square, free = joint, joint**2 / sum(part**2 / of for part, of in parts)
        return _tested(mean, math.sqrt(square / (self.seeds * self.examples)), free)

    def of(self, seeds: int, examples: int) -> Layout:
        """What would be expected of other numbers of seeds and examples."""
        seed = max(self.between_seeds - self.rest, 0) / self.examples
        example = max(self.between_examples - self.rest, 0) / self.seeds
        squares = self.rest + examples * seed, self.rest + seeds * example
        return Layout(seeds, examples, *squares, self.rest)


def layout(differences: np.ndarray) -> Layout:
    """Of differences (S,N)."""
    values = np.asarray(differences, float)
    seeds, examples = values.shape
    mean, rows, columns = values.mean(), values.mean(1), values.mean(0)
    rest = values - rows[:, None] - columns + mean
    return Layout(
        seeds, examples,
        float(examples * np.square(rows - mean).sum() / max(seeds - 1, 1)),
        float(seeds * np.square(columns - mean).sum() / max(examples - 1, 1)),
        float(np.square(rest).sum() / max((seeds - 1) * (examples - 1), 1)),
    )  # fmt: skip


def paired(ours: np.ndarray, theirs: np.ndarray) -> tuple[Paired, Layout]:
    """How much more ours got right than theirs: right or wrong (S,N), with the same seeds on the
    same examples.

    The interval is that of `Layout.tested`, after two made-up examples, one in favour of each, so
    that few test examples never look like certainty (after Agresti and Min 2005, Statist. Med. 24).
    `p` is the larger of what it and `flipped` say."""
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    ends = np.broadcast_to([1.0, -1.0], (len(differences), 2))
    found = layout(np.concatenate([differences, ends], 1))
    tested = found.tested(float(differences.mean()))
    totals = np.rint(differences.sum(0)).astype(int)
    return tested._replace(p=max(tested.p, flipped(totals))), found


def over_seeds(differences: Sequence[float]) -> Paired:
    """The paired t-test (Student 1908) of a metric's differences, one a seed. It takes the test
    examples as given; where every seed has test examples of its own, it knows both."""
    values = np.asarray(differences, float)
    if len(values) < 2:
        return _tested(float(values.mean()), math.inf, 1)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _tested(float(values.mean()), error, len(values) - 1)


def flipped(totals: np.ndarray) -> float:
    """The exact two-sided p when every test example could as well have favoured the other way.

    `totals` (N,), whole numbers: how many seeds more one way was right on an example than the
    other. The signs are flipped in all 2^N ways (Fisher 1935); with one seed this is McNemar's
    exact test (1947). It knows what few examples cannot prove: with five, p is at least 1/16."""
    sizes, reached, chances = np.abs(totals), abs(int(np.sum(totals))), np.ones(1)
    for size in np.unique(sizes[sizes > 0]):
        chances = _added(chances, int(size), int(np.sum(sizes == size)))
    if not reached:
        return 1.0
    return float(min(1.0, 2 * chances[len(chances) // 2 + reached :].sum()))


def _added(chances: np.ndarray, size: int, count: int) -> np.ndarray:
    """The distribution of a sum with `count` more terms, each `size` or -`size`."""
    from scipy.signal import fftconvolve  # heavy
    from scipy.stats import binom

    more = np.zeros(2 * size * count + 1)
    more[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return np.maximum(fftconvolve(chances, more), 0)  # sums to 1 within 1e-15


def _tested(mean: float, error: float, freedom: float) -> Paired:
    from scipy.special import stdtr, stdtrit

    if not math.isfinite(error):
        return Paired(mean, math.inf, 1.0, math.inf)
    t, power = (float(stdtrit(freedom, share)) for share in (1 - SURE / 2, POWER))
    p = 2 * float(stdtr(freedom, -abs(mean) / error)) if error else float(mean == 0)
    return Paired(mean, t * error, p, (t + power) * error)
