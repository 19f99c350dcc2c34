"""A sweep: the same run at many points, each with several seeds; validation chooses.

Points that differ in rates and weights alone, behind a cached prefix, are trained together in one
compiled program; others one after another. Only the models of the chosen point see the test split.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from tlx import config as configs
from tlx.assemble import Experiment, assemble
from tlx.config import RunConfig
from tlx.errors import ConfigError, DivergedError, TlxError
from tlx.feeding.cache_store import Store
from tlx.files.stored_json import read_object, require
from tlx.loop import train
from tlx.protocols import Sink
from tlx.reporting.console import Console
from tlx.reporting.forgetting import forgotten
from tlx.reporting.wording import point as worded
from tlx.reporting.wording import shown
from tlx.run_file.overrides import differences
from tlx.run_folder import folder, locations, lock
from tlx.run_one import finished, listening, validation
from tlx.sinks import SWEEP, Sinks
from tlx.studies import sampler, together
from tlx.studies.attempt import Failure, attempt, refuse
from tlx.studies.sweep_results import DOMAIN, Found, key, over_seeds
from tlx.studies.sweep_space import Axis, Point, as_set, axes, grid
from tlx.training.split_metrics import evaluated
from tlx.types import Event

LINES = "points.jsonl"
SPACE = "sweep.json"
CHOSEN = "chosen.toml"
UNKNOWN = ", so that nobody knows what was asked for. Use --overwrite to start anew."
TRACED = ("optimizer.learning_rate", "optimizer.weight_decay", "divergence.{}.weight")


class Outcome(NamedTuple):
    """A trained run: its metrics on validation (None where it diverged), how to test it, and what
    it has forgotten of its source."""

    val: Mapping[str, float] | None
    test: Callable[[], Mapping[str, float]]
    forgotten: Callable[[], Mapping[str, Any] | None] = lambda: None


class Sweep(NamedTuple):
    """What is swept: `read` gives the run of a point."""

    base: RunConfig
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    read: Callable[[Point], RunConfig]

    @property
    def of_lambda(self) -> bool:
        """Whether it goes over the weight of a divergence: then what is kept of the source is a
        question, too."""
        return any(re.fullmatch(r"divergence\..+\.weight", axis.key) for axis in self.axes)

    def points(self) -> list[Point]:
        """The grid, every run in it checked before the first is trained."""
        found = grid(self.axes)
        for point in found:
            configs.check(self.read(point))
        return found


def sweep(
    run: str | Path,
    over: Sequence[str],
    *,
    seeds: int = 1,
    trials: int | None = None,
    sets: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Train the run file `run` at every point of the axes `over` (`KEY=log:1e-4:1:8`; see
    `tlx.studies.sweep_space`) with `seeds` seeds, choose on validation, and test what was chosen.

    Where an axis has ends and no count, a sampler (optuna) draws `trials` points. Writes to `out`,
    else `runs/<name>-sweep`; returns its `result.json`. `trust_code` as for `tlx.run`."""
    spaces = axes(over)
    base = configs.read(run, sets, trust_code=trust_code)
    if base.stage or base.variant:
        raise ConfigError(f"{run} has stages or variants; a sweep goes over one run. Remove them.")
    if base.mesh is not None and base.mesh.hosts:
        raise ConfigError(f"{run} runs on several hosts; a sweep runs on one. Remove mesh.hosts.")
    if seeds < 1:
        raise ConfigError(f"--seeds is a count of at least 1, not {seeds}.")
    sampler.check(spaces, trials)

    def read(point: Point) -> RunConfig:
        more = [*sets, *(as_set(key, value) for key, value in point.items())]
        return locations.absolute(configs.read(run, more, trust_code=trust_code))

    configs.check(base)
    numbers = tuple(range(base.seed, base.seed + seeds))
    asked = Sweep(locations.absolute(base), spaces, numbers, read)
    if trials is None:
        asked.points()
    to = Path(out) if out else Path(f"{folder.of(base)}-sweep")
    with lock.held(to) as unlocked:
        resume = folder.claim(to, asked.base, resume=resume, overwrite=overwrite)
        console = Console()
        if unlocked:
            console.emit(Event("warning", 0, {"text": unlocked}))
        try:
            return searched(asked, trials, over, to, resume=resume, console=console)
        except TlxError:
            folder.release(to)
            raise


def searched(
    asked: Sweep,
    trials: int | None,
    over: Sequence[str],
    to: Path,
    *,
    resume: bool,
    console: Sink,
    store: Store | None = None,
) -> dict[str, Any]:
    """A sweep in the folder `to`, which is claimed already; `over` is what was asked for in words.
    `store` holds what other runs computed of the same pictures."""
    started = time.perf_counter()
    space = {"over": list(over), "seeds": list(asked.seeds), "trials": trials}
    _check_space(to / SPACE, space, resume)
    done = folder.read_result(to) if resume else None
    if done is not None and "failed" not in done:
        chosen = {axis.key: object for axis in asked.axes}
        require(done, {"chosen": chosen, "points": list}, to / folder.RESULT, folder.AGAIN)
        text = f"The sweep in {to} is finished: its result is in {to / folder.RESULT}."
        console.emit(Event("note", 0, {"text": text}))
        return done
    sinks = listening(asked.base, console)
    try:
        experiment = assemble(asked.base)
        folder.write_json(to / SPACE, space)
        found = Found(to / LINES, *experiment.selection)
        kept: dict[str, list[Outcome]] = {}
        failed: dict[str, Failure] = {}
        store = store or Store()
        one_by_one = _one_by_one(experiment, asked)
        count = "a sampler's" if trials else str(math.prod(len(a.values) for a in asked.axes))
        how = (
            f"one run after another, because {one_by_one}"
            if one_by_one
            else "all of them in one program"
        )
        _note(sinks, f"{asked.base.name}: {count} points x {len(asked.seeds)} seeds, {how}; "
                     f"writing to {to}")  # fmt: skip

        def trained(points: Sequence[Point]) -> Iterator[tuple[Point, list[Outcome] | Failure]]:
            if one_by_one:
                return _each(asked, points, to, store)
            return _together(experiment, asked, points, store)

        def ask(points: Sequence[Point]) -> list[list[float]]:
            """Validation of each point with every seed; known ones are not trained again."""
            for point, outcomes in trained([p for p in points if p not in found]):
                if isinstance(outcomes, Failure):
                    failed[worded(point)] = outcomes
                    _note(sinks, f"{worded(point)} failed, and the others go on: {outcomes.text}")
                    continue
                lost = [o.forgotten() for o in outcomes if o.val] if asked.of_lambda else []
                found.add(point, [outcome.val for outcome in outcomes], lost)
                if found.is_best(point):
                    kept.clear()  # of all others the models are let go
                    kept[key(point)] = outcomes
                if one_by_one:
                    _note(sinks, _said(found.row(point), found))
            lost_ones = [math.nan] * len(asked.seeds)
            return [found.values(p) if p in found else lost_ones for p in points]

        if trials is None:
            points = grid(asked.axes)
            ask(points)
        else:
            points = sampler.sampled(
                asked.axes, trials, ask, direction=found.direction, seed=asked.base.seed,
                at_once=1 if one_by_one else sampler.TOGETHER,
            )  # fmt: skip
        count = len(points)
        points = [point for point in points if point in found]
        if not points:
            refuse(failed, "points", count)
        best = found.best(points)
        runs = kept.get(key(best)) or next(trained([best]))[1]  # or else before an interruption
        if isinstance(runs, Failure):
            raise runs.error
        tested = [dict(outcome.test()) for outcome in runs]
    finally:
        sinks.close()
    (to / CHOSEN).write_text(configs.dumps(asked.read(best)))
    rows = [found.row(point) for point in points]
    seconds = time.perf_counter() - started
    chosen, metric = found.row(best), experiment.selection
    result = _told(asked, to, rows, chosen, tested, metric, seconds, failed, console)
    refuse(failed, "points", count)
    return result


def _one_by_one(experiment: Experiment, asked: Sweep) -> str:
    """Why the points are trained one after another; '' where they can be together."""
    count = len(experiment.config.divergence)
    traced = {t.format(n) for t in TRACED for n in range(max(count, 1))}
    for space in asked.axes:
        for value in space.values or space.ends or ():
            other = configs.table(asked.read({space.key: value}))
            moved = differences(configs.table(asked.base), other)
            if changes := [path for path in moved if path not in traced]:
                return f"{changes[0]} changes the program"
    return together.reason(experiment, asked.seeds)


def _together(
    experiment: Experiment, asked: Sweep, points: Sequence[Point], store: Store
) -> Iterator[tuple[Point, list[Outcome]]]:
    if not points:
        return
    hyper = [_hyper(experiment, asked.read(point)) for point in points]
    found = together.train_together(experiment, hyper, asked.seeds, store)
    test = together.testing(found, store)

    def outcome(s: int, p: int) -> Outcome:
        val = found.val[s][p] if found.finite[s, p] else None
        return Outcome(
            val, lambda: test(s, p), lambda: forgotten(experiment, found.variables(s, p))
        )

    for p, point in enumerate(points):
        yield point, [outcome(s, p) for s in range(len(asked.seeds))]


def _hyper(experiment: Experiment, config: RunConfig) -> dict[str, Any]:
    """`Constants.hyper` of an experiment with the numbers of another run file."""
    named = zip(experiment.terms, config.divergence, strict=False)
    return {
        **experiment.constants.hyper,
        "learning_rate": jnp.float32(config.optimizer.learning_rate),
        "weight_decay": jnp.float32(config.optimizer.weight_decay),
        "divergence": {
            **experiment.constants.hyper["divergence"],
            **{term.name: jnp.float32(part.weight) for term, part in named},
        },
    }


def _each(
    asked: Sweep, points: Sequence[Point], to: Path, store: Store
) -> Iterator[tuple[Point, list[Outcome] | Failure]]:
    def of(config: RunConfig) -> list[Outcome]:
        return [_alone(replace(config, seed=seed), to, store) for seed in asked.seeds]

    for point in points:
        yield point, attempt(partial(of, asked.read(point)))


def _alone(config: RunConfig, to: Path, store: Store) -> Outcome:
    """One run; nothing of it is kept on disk."""
    experiment = assemble(config)
    with tempfile.TemporaryDirectory(dir=to) as into:
        try:
            trained = train(experiment, Path(into), Sinks([]), resume=False, store=store)
        except DivergedError:
            return Outcome(None, dict)
    learnt = finished(experiment, trained.variables).variables
    variables, last = experiment.used(learnt), experiment.final
    val = validation(experiment, trained, learnt)

    def test() -> Mapping[str, float]:
        domain = experiment.domain
        where = {"": experiment.splits.test, DOMAIN: domain.test if domain else None}
        every = {of: evaluated(experiment, last, variables, on) for of, on in where.items() if on}
        return {of + name: v for of, each in every.items() for name, v in each.metrics.items()}

    return Outcome(val, test, lambda: forgotten(experiment, variables))


def _check_space(path: Path, space: Mapping[str, Any], resume: bool) -> None:
    if resume and path.exists() and read_object(path, UNKNOWN) != space:
        raise ConfigError(
            f"{path} is of a sweep over something else. Give the same --over, --seeds and --trials "
            f"to go on with it, or --overwrite to start anew."
        )


def _told(
    asked: Sweep,
    to: Path,
    rows: list[dict[str, Any]],
    best: dict[str, Any],
    tested: list[dict[str, float]],
    selection: tuple[str, str],
    seconds: float,
    failed: Mapping[str, Failure],
    console: Sink,
) -> dict[str, Any]:
    """What came out, for the sinks and for `result.json`."""
    metric, direction = selection
    result = {
        "name": asked.base.name,
        "metric": metric,
        "direction": direction,
        "axes": [space._asdict() for space in asked.axes],
        "seeds": list(asked.seeds),
        "points": rows,
        "chosen": best["point"],
        "val": {metric: best["mean"]},
        **over_seeds(tested, metric),
        "seconds": round(seconds, 3),
        **({"failed": {name: each.text for name, each in failed.items()}} if failed else {}),
    }
    folder.write_json(to / folder.RESULT, result)
    sinks = listening(asked.base, console)
    try:
        ways = [f"tlx run {to / CHOSEN}"]
        sinks.emit(Event(SWEEP, 0, {**result, "out": str(to), "next": ways}))
    finally:
        sinks.close()
    return result


def _said(row: Mapping[str, Any], found: Found) -> str:
    metric, mean = found.metric, row["mean"]
    reached = "diverged" if mean is None else f"val {metric} {shown(metric, mean)}"
    return f"point {len(found)}: {worded(row['point'])}: {reached}"


def _note(sinks: Sink, text: str) -> None:
    sinks.emit(Event("note", 0, {"text": text}))
