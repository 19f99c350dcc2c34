"""Size: a trivial baseline that every score has to beat: larger sources first."""

from __future__ import annotations


def size(*, parameters: int) -> float:
    """How many parameters the source's backbone has."""
    return float(parameters)
