"""Many runs as one: stages after each other, variants on the same split, each in its own folder.

Every one is resumable by itself. Variants end with one comparison, in the terminal, in the report
and in `result.json`; they may be those of the last stage. A run without either is a study of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from jax.errors import JaxRuntimeError

from tlx import config as configs
from tlx.config import RunConfig
from tlx.devices import hosts
from tlx.errors import ConfigError, TlxError, listed
from tlx.feeding.cache_store import Store
from tlx.protocols import Sink
from tlx.reporting.console import Console
from tlx.reporting.next_command import predict_command
from tlx.run_folder import folder, locations, lock
from tlx.run_one import evaluate_run, listening, run_one
from tlx.sinks import Sinks
from tlx.studies.attempt import Failure, attempt, refuse
from tlx.studies.comparison import compared_on, outcome, ranked, row, sentence
from tlx.studies.stages import rehearsed
from tlx.types import Event
from tlx.weights import as_loaded

MOVABLE = ("data", "domain", "sources", "weights", "batch_size")
"""Tables and keys of a finished run that may be others when it is measured again; that its data
are the same is checked."""
One: TypeAlias = Callable[..., dict[str, Any]]
"""`run_one` with what all runs of a study share."""


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    profile: bool = False,
    trust_code: bool = False,
) -> dict[str, Any]:
    """Train what a run file, a table of the same shape or a RunConfig says.

    Writes to `out`, else the run file's `out`, else `runs/<name>`. Returns what `result.json`
    holds: the result of the run, `{"variants": {name: result}, ...}`, or `{"stages": {name: any of
    these}, ...}`. With `profile` a result says where the wall time went, and jax's traces of a few
    steps lie in `profile/`; to be honest about it, the run then waits for every step. With
    `trust_code`, where `config` is a folder: run what its run file names, whoever wrote it."""
    if isinstance(config, str | Path):
        config = configs.read(config, trust_code=trust_code)
    elif not isinstance(config, RunConfig):
        config = configs.parse(config, "the table given to tlx.run", names=True)
    configs.check(config)
    whole, to = config, Path(out) if out else folder.of(config)
    hosts.join(config.mesh)
    hosts.same("run file", lambda: f"{configs.dumps(whole)}{to}{resume}{overwrite}".encode())
    whole = config = locations.absolute(config)
    console = Console() if hosts.first() else Sinks([])
    with _alone(to) as unlocked:
        begun = hosts.once(
            lambda: folder.claim(to, whole, resume=resume, overwrite=overwrite, lengthened=True)
        )
        if unlocked:
            console.emit(Event("warning", 0, {"text": unlocked}))
        try:
            one = partial(run_one, store=Store(), profile=profile)
            return _run(config, to, console, begun, one)
        except TlxError:
            if hosts.first():
                folder.release(to)
            raise
        except JaxRuntimeError as error:
            if hosts.several():
                raise hosts.lost(error) from error
            raise


@contextmanager
def _alone(out: Path) -> Iterator[str]:
    """As `lock.held`, for all processes of a run together."""
    with ExitStack() as opened:
        yield hosts.once(lambda: opened.enter_context(lock.held(out)))


def _run(config: RunConfig, to: Path, console: Sink, resume: bool, one: One) -> dict[str, Any]:
    if config.stage:
        return _in_stages(config, to, console, resume, one)
    if not config.variant:
        return one(config, to, console, resume=resume)
    text = f"{config.name}: {len(config.variant)} variants on one split, writing to {to}"
    console.emit(Event("note", 0, {"text": text}))
    found: dict[str, Any] = {}
    for number, (name, variant, into) in enumerate(folder.runs(config, to), start=1):
        about = {"name": name, "number": number, "of": len(config.variant)}

        def trained(of: RunConfig = variant, into: Path = into, about: Any = about) -> Any:
            with _alone(into):
                return one(of, into, console, resume=_inside(into, of), variant=about)

        found[name] = attempt(trained)
        if isinstance(found[name], Failure):
            text = f"{name} failed, and the other variants go on: {found[name].text}"
            console.emit(Event("warning", 0, {"text": text}))
    failed = {name: each for name, each in found.items() if isinstance(each, Failure)}
    done = {name: each for name, each in found.items() if name not in failed}
    study = _compare(config, to, done, failed, console) if done else {}
    refuse(failed, "variants", len(found))
    return study


def _in_stages(
    config: RunConfig, to: Path, console: Sink, resume: bool, one: One
) -> dict[str, Any]:
    """Each stage as a run or a study of its own, once all of them are known to fit together."""
    order = " then ".join(stage.name for stage in config.stage)
    console.emit(Event("note", 0, {"text": f"{config.name}: {order}, writing to {to}"}))
    if not resume:
        for _ in rehearsed(config, to):
            pass
    results: dict[str, Any] = {}
    for name, stage in configs.stages(config, to):
        with _alone(to / name):
            begun = _inside(to / name, stage)
            results[name] = _run(stage, to / name, console, begun, one)
    last = results[config.stage[-1].name]
    text = last["text"] if config.variant else outcome(results)
    study = {"name": config.name, "text": text, "stages": results}
    hosts.once(lambda: _leave(config, to, study))
    if not config.variant:  # or else it is what was said last
        console.emit(Event("note", 0, {"text": text}))
    return study


def _inside(out: Path, config: RunConfig) -> bool:
    return hosts.once(lambda: folder.inside(out, config))


def evaluate(
    run: str | Path, sets: Sequence[str] = (), *, trust_code: bool = False
) -> dict[str, Any]:
    """Metrics on `val` and `test`, with counts, computed anew; `model` says of what.

    `run` is a run's folder, or a run file: then the model of its run, which lies where it writes,
    or the weights as loaded where it keeps their head and has nothing to train (`epochs` or
    `steps` is 0, or neither is there and it has not been run). `sets` change a run file, or say
    where the data of a run's folder lie now. For a study, the metrics of each variant or stage by
    name; of stages, those that have a head. One that cannot be measured has `failed`, why, and the
    others are. `trust_code` as for `tlx.load`."""
    path, trained = Path(run), partial(_trained, trust_code=trust_code)
    if path.is_dir():
        _refuse_changes(path, sets)
        moved = partial(trained, sets=sets)
        return _each(configs.read(path, sets, trust_code=trust_code), path, moved)
    config, length = as_loaded.read(path, sets)
    out = folder.of(config)
    there = any((into / folder.MODEL).is_dir() for *_, into in folder.runs(config, out))
    untrained = length == 0 or (length is None and not there)
    if as_loaded.keeps_head(config) and untrained and not config.stage:
        configs.check(config)
        return _each(config, out, lambda variant, _: as_loaded.measure(variant))
    if there:
        return _each(configs.read(path, sets), out, trained)
    raise ConfigError(
        f"{path} trains and has not been run: there is no model in {out}. Run it first with "
        f"'tlx run {path}'. To measure its weights as they are, let it keep their head and train "
        f"nothing: --set weights.head=keep epochs=0."
    )


def _each(
    config: RunConfig, out: Path, measured: Callable[[RunConfig, Path], dict[str, Any]]
) -> dict[str, Any]:
    if not config.stage and not config.variant:
        return measured(config, out)
    runs = folder.runs(config, out)
    headed = [of for of in runs if of[1].head is not None] if config.stage else []
    found = {name: attempt(partial(measured, run, into)) for name, run, into in headed or runs}
    failed = {name: each for name, each in found.items() if isinstance(each, Failure)}
    if len(failed) == len(found):
        refuse(failed, "runs", len(found))
    return {
        name: {"failed": each.text} if isinstance(each, Failure) else each
        for name, each in found.items()
    }


def _refuse_changes(run: Path, sets: Sequence[str]) -> None:
    """Of a run that is there, `--set` says where things lie now, and nothing else."""
    for text in sets:
        if text.partition("=")[0].split(".")[0].strip() not in MOVABLE:
            raise ConfigError(
                f"{run} is the folder of a run, so --set can say where its data lie now, such as "
                f"data.path=PLACE ({listed(MOVABLE)}), and cannot change what it is: {text!r}. For "
                f"that give a run file."
            )


def _trained(
    _: RunConfig, out: Path, *, trust_code: bool, sets: Sequence[str] = ()
) -> dict[str, Any]:
    return {"model": f"the model in {out}", **evaluate_run(out, sets, trust_code=trust_code)}


def _leave(config: RunConfig, out: Path, study: Mapping[str, Any]) -> None:
    """Write the result of a study, and its run file as it was run last."""
    folder.adopt(out, config)
    folder.write_json(out / folder.RESULT, study)


def _compare(
    config: RunConfig,
    out: Path,
    results: Mapping[str, Any],
    failed: Mapping[str, Failure],
    console: Sink,
) -> dict[str, Any]:
    """Tell the sinks and `result.json` how the variants did beside each other."""
    metric, direction = next(iter(results.values()))["selection"]
    where = compared_on(results)
    rows = [row(name, result, metric, where) for name, result in results.items()]
    text = sentence(results, metric, direction)
    study = {"name": config.name, "metric": metric, "text": text, "variants": dict(results)}
    if failed:
        study["failed"] = {name: failure.text for name, failure in failed.items()}
    hosts.once(lambda: _leave(config, out, study))
    sinks = listening(config, console)
    try:
        best = out / ranked(results, metric, direction, "val")[0]
        ways = [predict_command(best), f"tlx eval {out}"]
        about = {**study, "out": str(out), "rows": rows, "next": ways}
        sinks.emit(Event("study", 0, about))
    finally:
        sinks.close()
    return study
