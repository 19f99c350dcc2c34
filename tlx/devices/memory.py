"""A full memory as a sentence: how large the array was that did not fit, and what to lower.

jax, numpy and Python say it each in its own words.
"""

from __future__ import annotations

import re

_BYTES = re.compile(r"(?:allocate|allocating) ([\d.,]+) ?(bytes|[KMGT]?i?B)", re.IGNORECASE)
_SHAPE = re.compile(r"shape (\([\d, ]*\))(?: and data type (\w+))?")
_LOWER = (
    'Lower batch_size, or compute a batch in parts ([step] accumulate = 4), in precision = "bf16", '
    "with activations computed twice ([step] remat = true), or on smaller pictures ([backbone] "
    "size). cache_gb bounds what is kept of frozen stages, and cache_gb = 0 keeps nothing."
)


def memory_full(error: BaseException) -> str | None:
    """The sentence for an error that says that memory is full; None for any other."""
    said = str(error)
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in said:
        return None
    size, shape = _BYTES.search(said), _SHAPE.search(said)
    many = f" of {_size(size[1], size[2])}" if size else ""
    form = f" with the shape {shape[1]}{f' of {shape[2]}' if shape[2] else ''}" if shape else ""
    return f"The memory is full: there was no room for an array{many}{form}. {_LOWER}"


def _size(number: str, unit: str) -> str:
    """Bytes as people say them; other units as they were said."""
    if unit.lower() != "bytes":
        return f"{number} {unit}"
    count = float(number.replace(",", ""))
    for name, many in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= many:
            return f"{count / many:.1f} {name}"
    return f"{count:,.0f} bytes"
