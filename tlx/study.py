"""Many runs as one: the variants of a run file on the same split, each in a folder of its own.

Every variant is resumable by itself; the study ends with one comparison, in the terminal, in the
report and in `result.json`. A run without variants is a study of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx import as_loaded, folder
from tlx import config as configs
from tlx.comparison import ranked, row, sentence
from tlx.config import RunConfig
from tlx.console import Console
from tlx.errors import ConfigError, TlxError
from tlx.protocols import Sink
from tlx.run_one import evaluate_run, listening, run_one
from tlx.types import Event


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train what a run file, a table of the same shape or a RunConfig says.

    Writes to `out`, else the run file's `out`, else `runs/<name>`. Returns what `result.json`
    holds: the result of the run, or `{"variants": {name: result}, ...}`."""
    if isinstance(config, str | Path):
        config = configs.read(config)
    elif not isinstance(config, RunConfig):
        config = configs.parse(config, "the table given to tlx.run", names=True)
    configs.check(config)
    variants = configs.expand(config)
    to = Path(out) if out else folder.of(config)
    resume = folder.claim(to, config, resume=resume, overwrite=overwrite)
    try:
        return _run(config, variants, to, resume)
    except TlxError:
        folder.release(to)
        raise


def _run(
    config: RunConfig, variants: Iterable[tuple[str, RunConfig]], to: Path, resume: bool
) -> dict[str, Any]:
    console = Console()
    if not config.variant:
        return run_one(config, to, console, resume=resume)
    text = f"{config.name}: {len(config.variant)} variants on one split, writing to {to}"
    console.emit(Event("note", 0, {"text": text}))
    results = {}
    for number, (name, variant) in enumerate(variants, start=1):
        into = to / name
        going_on = folder.claim(into, variant, resume=resume, overwrite=False)
        results[name] = run_one(
            variant,
            into,
            console,
            resume=going_on,
            variant={"name": name, "number": number, "of": len(config.variant)},
        )
    return _compare(config, to, results, console)


def evaluate(run: str | Path, sets: Sequence[str] = ()) -> dict[str, Any]:
    """Metrics on `val` and `test`, with counts, computed anew; `model` says of what.

    `run` is a run's folder, or a run file: then the model of its run, which lies where it writes,
    or the weights as loaded where it keeps their head and has nothing to train (`epochs` or
    `steps` is 0, or neither is there and it has not been run). `sets` change a run file. For a
    study, the metrics of each variant by name."""
    path = Path(run)
    if path.is_dir():
        if sets:
            raise ConfigError(
                f"{path} is the folder of a run, which --set cannot change. Give a run file."
            )
        return _each(configs.read(path), path, _trained)
    config, length = as_loaded.read(path, sets)
    out = folder.of(config)
    there = any((where / folder.MODEL).is_dir() for where in (out, *_folders(config, out)))
    if as_loaded.keeps_head(config) and (length == 0 or (length is None and not there)):
        configs.check(config)
        return _each(config, out, lambda variant, _: as_loaded.measure(variant))
    if there:
        return _each(configs.read(path, sets), out, _trained)
    raise ConfigError(
        f"{path} trains and has not been run: there is no model in {out}. Run it first with "
        f"'tlx run {path}'. To measure its weights as they are, let it keep their head and train "
        f"nothing: --set weights.head=keep epochs=0."
    )


def _each(
    config: RunConfig, out: Path, measured: Callable[[RunConfig, Path], dict[str, Any]]
) -> dict[str, Any]:
    if not config.variant:
        return measured(config, out)
    variants = zip(configs.expand(config), _folders(config, out), strict=True)
    return {name: measured(variant, into) for (name, variant), into in variants}


def _folders(config: RunConfig, out: Path) -> list[Path]:
    return [out / variant.name for variant in config.variant]


def _trained(_: RunConfig, out: Path) -> dict[str, Any]:
    return {"model": f"the model in {out}", **evaluate_run(out)}


def _compare(
    config: RunConfig, out: Path, results: Mapping[str, Any], console: Sink
) -> dict[str, Any]:
    """Tell the sinks and `result.json` how the variants did beside each other."""
    metric, direction = next(iter(results.values()))["selection"]
    rows = [row(name, result, metric) for name, result in results.items()]
    text = sentence(results, metric, direction)
    study = {"name": config.name, "metric": metric, "text": text, "variants": dict(results)}
    folder.write_json(out / folder.RESULT, study)
    sinks = listening(config, console)
    try:
        best = out / ranked(results, metric, direction, "val")[0]
        ways = [f"tlx predict {best} IMAGE...", f"tlx eval {out}"]
        about = {**study, "out": str(out), "rows": rows, "next": ways}
        sinks.emit(Event("study", 0, about))
    finally:
        sinks.close()
    return study
