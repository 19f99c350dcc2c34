"""What a sweep tries: one axis for each key of the run file, and the points between them.

`divergence.0.weight=log:1e-4:1:8` are eight values a constant factor apart, `lin:` a constant
difference, `0.1,0.3` the values themselves. A range without a count is for a sampler to draw from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from tlx.errors import ConfigError
from tlx.run_file.overrides import parsed

DIGITS = 4
"""Significant digits of a value between two ends, so that people can write it down."""


class Axis(NamedTuple):
    """One key and its `values`, or the ends between which a sampler draws (`ends`, then no
    values); `log` where equal factors count as equal steps."""

    key: str
    values: tuple[Any, ...]
    ends: tuple[float, float] | None = None
    log: bool = False


Point = Mapping[str, Any]
"""One value for each key."""


def axis(text: str) -> Axis:
    """The axis that `KEY=SPEC` says. Raises ConfigError."""
    key, equals, spec = (part.strip() for part in text.partition("="))
    if not equals or not key or not spec:
        raise ConfigError(
            f"--over {text!r} should look like KEY=0.1,0.3 or KEY=log:1e-4:1:8 (or lin:, and "
            f"without the count where a sampler draws)."
        )
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in ("log", "lin"):
        found = parsed(spec, key) if spec[:1] == "[" else [parsed(v, key) for v in spec.split(",")]
        return Axis(key, _distinct(found, text), log=_spread(found))
    numbers = rest.split(":")
    try:
        low, high = float(numbers[0]), float(numbers[1])
        count = int(numbers[2]) if len(numbers) > 2 else None
        if len(numbers) > 3 or not (math.isfinite(low) and math.isfinite(high)) or low >= high:
            raise ValueError
    except (ValueError, IndexError):
        raise ConfigError(
            f"--over {text!r}: {kind} takes two numbers, the lower one first, and a count: "
            f"{kind}:0.001:1:7."
        ) from None
    if kind == "log" and low <= 0:
        raise ConfigError(f"--over {text!r}: log needs ends above 0; use lin, or list the values.")
    if count is None:
        return Axis(key, (), (low, high), kind == "log")
    if count < 2:
        raise ConfigError(f"--over {text!r}: a range has at least 2 values, its ends.")
    shares = [i / (count - 1) for i in range(count)]
    between = (
        [low * (high / low) ** s for s in shares]
        if kind == "log"
        else [low + (high - low) * s for s in shares]
    )
    return Axis(key, tuple(float(f"{v:.{DIGITS}g}") for v in between), log=kind == "log")


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Every combination of the axes' values, the last axis fastest."""
    return [
        dict(zip((a.key for a in axes), values, strict=True))
        for values in product(*(a.values for a in axes))
    ]


def axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """All axes of a sweep. Raises ConfigError for none and for a key that is there twice."""
    found = tuple(map(axis, texts))
    if not found:
        raise ConfigError("A sweep needs what it goes over: --over optimizer.learning_rate=log:...")
    keys = [a.key for a in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ConfigError(f"--over names {twice[0]!r} twice; list all of its values once.")
    return found


def as_set(key: str, value: Any) -> str:
    """A value of a key as `--set` takes it."""
    import json

    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _distinct(values: Any, text: str) -> tuple[Any, ...]:
    distinct = list({repr(v): v for v in values}.values())
    if len(distinct) < len(values):
        raise ConfigError(f"--over {text!r} names a value twice.")
    return tuple(distinct)


def _spread(values: Sequence[Any]) -> bool:
    """Whether numbers lie so far apart that a picture of them needs a logarithmic axis."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    whole = len(numbers) == len(values) and min(numbers, default=0) > 0
    return whole and max(numbers) / min(numbers) >= 20
