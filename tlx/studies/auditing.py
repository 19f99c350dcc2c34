"""An audit: did the transfer help, compared with the same network from random weights?

Each arm (`tlx.studies.audit_arms`) is given the same pictures, the same number of learning rates,
chosen on validation with the first seed, and the same seeds. The test split has no part in any
choice; `tlx.studies.verdict` says in a sentence what came out. Everything goes on where it was with
`resume`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tlx import config as configs
from tlx.assemble import assemble
from tlx.config import Part, RunConfig
from tlx.errors import ConfigError, TlxError
from tlx.feeding.cache_store import Store
from tlx.files.stored_json import read_object
from tlx.protocols import Sink
from tlx.reporting.console import Console
from tlx.reporting.next_command import predict_command
from tlx.reporting.wording import shown
from tlx.run_folder import folder, locations, lock
from tlx.run_one import listening, run_one
from tlx.sinks import AUDIT, Sinks
from tlx.studies import audit_arms, verdict
from tlx.studies.attempt import Failure, attempt, refuse
from tlx.studies.audit_arms import SCRATCH, Labels
from tlx.studies.audit_results import arms, row, summed_up
from tlx.studies.sweep import UNKNOWN, Sweep, searched
from tlx.studies.sweep_space import Axis
from tlx.types import Event

ASKED = "audit.json"
RATE = "optimizer.learning_rate"
QUIET = Sinks([])


class Asked(NamedTuple):
    """What an audit is asked for; see `audit`."""

    seeds: int
    rates: int
    labels: tuple[Labels, ...]
    resplit: bool


def audit(
    run: str | Path,
    *,
    seeds: int = 5,
    rates: int = 3,
    labels: Sequence[Labels] = (),
    resplit: bool = False,
    sets: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Train the run file `run` in every arm with `seeds` seeds and say whether the transfer helps.

    `rates`: learning rates that each arm tries, a factor of √10 apart around the run's own;
    `labels`: do it for each of these counts of labelled examples a class ('all' for every one);
    `resplit`: every seed draws its own labelled examples; `quiet`: print nothing; `trust_code` as
    for `tlx.run`. Writes to `out`, else `runs/<name>-audit`; returns what its `result.json` holds.
    Raises ConfigError."""
    asked = Asked(seeds, rates, tuple(labels), resplit)
    audit_arms.check_counts(*asked[:3])
    base = configs.read(run, sets, trust_code=trust_code)
    audit_arms.refuse(base)
    configs.check(base)
    base = locations.absolute(base)
    counts: Sequence[Labels] = labels or (None,)
    settings = list(zip(counts, (audit_arms.with_labels(base, n) for n in counts), strict=True))
    for _, setting in settings:
        for config in audit_arms.arms(setting).values():
            configs.check(config)
    to = Path(out) if out else Path(f"{folder.of(base)}-audit")
    with lock.held(to) as unlocked:
        resume = folder.claim(to, base, resume=resume, overwrite=overwrite)
        console = QUIET if quiet else Console()
        if unlocked:
            console.emit(Event("warning", 0, {"text": unlocked}))
        try:
            return _audited(base, settings, asked, to, resume, console)
        except TlxError:
            folder.release(to)
            raise


def _audited(
    base: RunConfig,
    settings: Sequence[tuple[Labels, RunConfig]],
    asked: Asked,
    to: Path,
    resume: bool,
    console: Sink,
) -> dict[str, Any]:
    started = time.perf_counter()
    _check_asked(to / ASKED, asked, resume)
    done = folder.read_result(to) if resume else None
    if done is not None and "failed" not in done:
        text = f"The audit in {to} is finished: its result is in {to / folder.RESULT}."
        console.emit(Event("note", 0, {"text": text}))
        return done
    for config in audit_arms.arms(settings[0][1]).values():
        assemble(config)  # what cannot work is refused before an hour of what can
    folder.write_json(to / ASKED, asked._asdict())
    sinks = listening(base, console)
    try:
        names = list(audit_arms.arms(base))
        _note(sinks, f"{base.name}: {', '.join(names)}, each with {_counted(asked)} "
                     f"and {asked.seeds} seeds; writing to {to}")  # fmt: skip
        if text := audit_arms.warned(asked.seeds):
            sinks.emit(Event("warning", 0, {"text": text}))
        found, failed = [], {}
        for count, setting in settings:
            into = audit_arms.folder(to, count)
            if count is not None:
                _note(sinks, f"With {verdict.worded(count)}:")
            said, lost = _setting(setting, asked, into, sinks)
            of = "" if count is None else f" with {verdict.worded(count)}"
            failed |= {f"{name}{of}": failure for name, failure in lost.items()}
            if said:
                found.append({"labels": count, **said})
        if not found:
            refuse(failed, "arms", len(names) * len(settings))
        result = summed_up(base, found, asked.seeds, asked.resplit, time.perf_counter() - started)
        if failed:
            result["failed"] = {name: failure.text for name, failure in failed.items()}
        folder.write_json(to / folder.RESULT, result)
        sinks.emit(Event(AUDIT, 0, {**result, "out": str(to), "next": _next(found, to)}))
        refuse(failed, "arms", len(names) * len(settings))
    finally:
        sinks.close()
    return result


def _setting(
    config: RunConfig, asked: Asked, to: Path, sinks: Sink
) -> tuple[dict[str, Any], dict[str, Failure]]:
    """All arms on one set of labelled examples, nothing where there are not two to compare; and the
    arms that failed."""
    runs: dict[str, list[dict[str, Any]]] = {}
    tuned: dict[str, dict[str, Any]] = {}
    store = Store()
    failed: dict[str, Failure] = {}
    for name, arm in audit_arms.arms(config).items():
        done = attempt(partial(_arm, name, arm, asked, to / name, store, sinks))
        if isinstance(done, Failure):
            failed[name] = done
            _note(sinks, f"{name} failed, and the others go on: {done.text}")
        else:
            tuned[name], runs[name] = done
    if SCRATCH not in runs or len(runs) < 2:
        return {}, failed
    metric, direction = runs[SCRATCH][0]["selection"]
    measured = arms(runs, to, metric)
    judged = verdict.judged(measured, metric, direction)
    edges = [name for name in (SCRATCH, judged["best"]) if tuned[name]["edge"]]
    for name in edges:
        rate = tuned[name]["rate"]
        judged["advice"] = [*judged["advice"], (
            f"{name} did best at {rate:g}, at the end of the learning rates that were tried; "
            f"--rates {asked.rates + 2} looks further."
        )]  # fmt: skip
    return {
        "metric": metric,
        "direction": direction,
        "examples": runs[SCRATCH][0]["examples"],
        **judged,
        "arms": [
            row(name, measured, runs[name], tuned[name], direction) for name in measured
        ],
    }, failed  # fmt: skip


def _arm(
    name: str, arm: RunConfig, asked: Asked, to: Path, store: Store, sinks: Sink
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One arm: its learning rate, chosen with the first seed, and what every seed came to."""
    tuned = _tuned(arm, asked.rates, to, store)
    best = replace(arm.optimizer, learning_rate=tuned["rate"])
    exact = audit_arms.solved(arm)
    _note(sinks, f"{name}: {'the exact head, without a learning rate' if exact else _said(tuned)}")
    runs = []
    for number in range(asked.seeds):
        each = audit_arms.with_seed(replace(arm, optimizer=best), number, asked.resplit)
        each = replace(each, sink=(Part("html"),) if number == 0 else ())
        done = _one(each, to / f"seed-{number}", store, keep=number == 0)
        runs.append(done)
        metric = done["selection"][0]
        reached = shown(metric, done["test"][metric])
        _note(sinks, f"{name}, seed {each.seed}: test {metric} {reached}")
    return tuned, runs


def _tuned(config: RunConfig, count: int, to: Path, store: Store) -> dict[str, Any]:
    """The learning rate that validation prefers, of those that were `tried`; whether it is at an
    `edge`."""
    tried = audit_arms.rates(config, 1 if audit_arms.solved(config) else count)
    if len(tried) == 1:
        of_solved = {"solved": True} if audit_arms.solved(config) else {}
        return {"rate": tried[0], "tried": list(tried), "edge": False, **of_solved}
    base = replace(config, sink=())
    axis = Axis(RATE, tried, log=True)

    def read(point: Mapping[str, Any]) -> RunConfig:
        return replace(base, optimizer=replace(base.optimizer, learning_rate=point[RATE]))

    into = to / "rates"
    begun = folder.inside(into, base)
    over = [f"{RATE}={','.join(f'{rate:g}' for rate in tried)}"]
    found = searched(
        Sweep(base, (axis,), (base.seed,), read), None, over, into,
        resume=begun, console=QUIET, store=store,
    )  # fmt: skip
    rate = found["chosen"][RATE]
    values = {row["point"][RATE]: row["mean"] for row in found["points"]}
    alike = len(set(values.values())) == 1  # as of a head that is solved for
    edge = count > 2 and rate in (min(tried), max(tried)) and not alike
    return {"rate": rate, "tried": list(tried), "edge": edge}


def _one(config: RunConfig, to: Path, store: Store, *, keep: bool) -> dict[str, Any]:
    """One seed of an arm; with `keep` its model stays."""
    with lock.held(to):
        begun = folder.inside(to, config)
        done = run_one(config, to, QUIET, resume=begun, store=store, answering=True)
    shutil.rmtree(to / folder.CHECKPOINTS, ignore_errors=True)
    if not keep:
        shutil.rmtree(to / folder.MODEL, ignore_errors=True)
    return done


def _next(found: Sequence[Mapping[str, Any]], to: Path) -> list[str]:
    last = found[-1]
    into = audit_arms.folder(to, last["labels"])
    name = SCRATCH if last["verdict"] == verdict.HURTS else last["best"]
    return [predict_command(into / name / "seed-0")]


def _check_asked(path: Path, asked: Asked, resume: bool) -> None:
    now = json.loads(json.dumps(asked._asdict()))
    if resume and path.exists() and read_object(path, UNKNOWN) != now:
        raise ConfigError(
            f"{path} is of an audit with other numbers. Give the same --seeds, --rates, --labels "
            f"and --resplit to go on with it, or --overwrite to start anew."
        )


def _counted(asked: Asked) -> str:
    many = f"{asked.rates} learning rates, of which validation chooses,"
    return many if asked.rates > 1 else "the run's own learning rate"


def _said(tuned: Mapping[str, Any]) -> str:
    tried = tuned["tried"]
    if len(tried) == 1:
        return f"learning rate {tuned['rate']:g}"
    return f"learning rate {tuned['rate']:g} of {', '.join(f'{rate:g}' for rate in sorted(tried))}"


def _note(sinks: Sink, text: str) -> None:
    sinks.emit(Event("note", 0, {"text": text}))
