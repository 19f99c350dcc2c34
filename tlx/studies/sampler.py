"""Points for spaces that are no grid, drawn where the last ones say that it pays (optuna).

Its tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS) with the run's seed: the same
results lead to the same points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tlx.errors import ConfigError
from tlx.studies.sweep_space import DIGITS, Axis, Point

TOGETHER = 8
"""Points that are drawn before any of them is known, where they are trained in one program."""


def check(axes: Sequence[Axis], trials: int | None) -> None:
    """Refuse a space that needs a sampler and has no number of trials, and the reverse."""
    open_ones = [axis.key for axis in axes if axis.ends]
    if open_ones and trials is None:
        raise ConfigError(
            f"--over {open_ones[0]} has no count, so a sampler has to draw from it: say how often "
            f"with --trials N, or give the range a count."
        )
    if trials is None:
        return
    if not open_ones:
        raise ConfigError(
            "--trials is for a range without a count, such as log:1e-4:1; this sweep is a grid."
        )
    if trials < 1:
        raise ConfigError(f"--trials is a count of at least 1, not {trials}.")
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Sampling a range needs optuna: pip install optuna. Ranges with a count do not."
        ) from None


def sampled(
    axes: Sequence[Axis],
    trials: int,
    ask: Callable[[Sequence[Point]], list[list[float]]],
    *,
    direction: str,
    seed: int,
    at_once: int,
) -> list[Point]:
    """`trials` points. `ask` trains some and gives the metric of each with every seed; it decides
    where the next are drawn. A point with a number that is not finite counts as failed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if direction == "max" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    points: list[Point] = []
    while len(points) < trials:
        drawn = [study.ask() for _ in range(min(at_once, trials - len(points)))]
        new = [{axis.key: _value(trial, axis) for axis in axes} for trial in drawn]
        for trial, values in zip(drawn, ask(new), strict=True):
            mean = sum(values) / len(values)
            failed = not math.isfinite(mean)
            state = optuna.trial.TrialState.FAIL if failed else None
            study.tell(trial, None if failed else mean, state=state)
        points += new
    return list({repr(point): point for point in points}.values())


def _value(trial: Any, axis: Axis) -> Any:
    if axis.ends is None:
        return trial.suggest_categorical(axis.key, list(axis.values))
    drawn = trial.suggest_float(axis.key, *axis.ends, log=axis.log)
    return float(f"{drawn:.{DIGITS}g}")
