"""Intervals of shares, which never leave 0 to 1.

A share of so many examples has Wilson's interval, which is right for few of them and for all or
none; a mean of shares over seeds has Student's, cut off where no share can be. Opens without
importing jax.
"""

from __future__ import annotations

import math

Z = 1.96
"""Standard deviations on either side of a 95 % interval."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (0..1) that was observed in `count` trials (Wilson 1927)."""
    centre = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return within((centre - half) / scale, (centre + half) / scale)


def difference(a: float, of_a: int, b: float, of_b: int) -> tuple[float, float]:
    """The 95 % interval of a - b, shares of so many trials each (Newcombe 1998, method 10). It
    takes the two as independent, which on the same examples errs on the careful side."""
    (low_a, high_a), (low_b, high_b) = wilson(a, of_a), wilson(b, of_b)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def within(low: float, high: float) -> tuple[float, float]:
    """An interval of a share without what no share can be."""
    return max(low, 0.0), min(high, 1.0)
