"""The folder of a run: whose it is, and what lies where.

Two runs never write into one folder and nothing is overwritten unasked. Files appear at once or
not at all.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx import config as configs
from tlx.config import RunConfig
from tlx.errors import CheckpointError, ConfigError, listed
from tlx.files.stored_json import read_object, require
from tlx.run_file import folder_code
from tlx.run_folder import locations
from tlx.run_folder.lock import LOCK

RUN_FILE = "run.toml"
SPLIT = "split.csv"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
MODEL = "model"
RESULT = "result.json"
ANSWERS = "answers.npz"
PROFILE = "profile"
LENGTH = ("epochs", "steps", "patience")
"""What says how long a run goes on; a resumed one may have another."""
HARMLESS = (
    "out", "sink", "log_every", "checkpoint_seconds", "health.stop", "data.check", "domain.check",
    "data.unreadable", "domain.unreadable",
    "mesh.hosts", "mesh.heartbeat_seconds",
)  # fmt: skip
"""What else may differ when a run is resumed: it changes nothing in the result."""
NUMBER = (int, float)
COMPARED = {
    "examples": {"test": int}, "weights": (str, type(None)),
    "trainable_parameters": int, "seconds": NUMBER,
}  # fmt: skip
"""What of a run's result its comparison with others reads, beside its metric."""
AGAIN = ". Remove it and use --resume: the run is measured again from its last checkpoint."


def claim(
    out: Path, config: RunConfig, *, resume: bool, overwrite: bool, lengthened: bool = False
) -> bool:
    """Make the run's folder its own and leave the resolved run file there; True to resume.

    A folder that holds something is refused unless `resume` (then it must hold the same run, with
    `lengthened` of whatever length) or `overwrite` (then it must be a run's folder, and is
    emptied)."""
    there = out / RUN_FILE
    found = [path for path in out.iterdir() if path.name != LOCK] if out.exists() else []
    if found and not resume and not overwrite:
        raise ConfigError(
            f"{out} already holds something. Use --resume to go on with that run, --overwrite to "
            f"replace it, or --out to write elsewhere."
        )
    if found and not there.exists():
        raise ConfigError(
            f"{out} is not the folder of a run (no {RUN_FILE}); choose another --out."
        )
    if found and resume:
        begun = locations.absolute(configs.read(there))
        changed = [
            path
            for path in configs.differences(begun, config)
            if not _below(path, HARMLESS) and not (lengthened and _lengthens(path, config))
        ]
        if changed:
            raise CheckpointError(
                f"Cannot resume in {out}: the run there was started with other settings for "
                f"{listed(changed)}. Use the same run file, or --overwrite to start anew. "
                f"{_starting_from(out)}"
            )
        theirs, ours = configs.table(begun), configs.table(config)
        if folder_code.named(theirs) == folder_code.named(ours):  # said by this user, too
            folder_code.remember(there, ours)
        return True
    for entry in found:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return inside(out, config)


def _starting_from(out: Path) -> str:
    """How another run starts from what the one in `out`, or one of its parts, has learnt."""
    models = sorted(path.parent for path in [*out.glob(MODEL), *out.glob(f"*/{MODEL}")])
    how = "with the other settings and an --out of its own"
    if not models:
        return (
            f"What it learns can be where another run starts: finish it with its own settings and "
            f'--resume, then give weights = "{out}" {how}.'
        )
    which = f'weights = "{models[-1]}"'
    also = f" (or of {listed(path.name for path in models[:-1])})" if len(models) > 1 else ""
    return (
        f"To start from what it has learnt, give a run {which}{also} {how}; "
        f'weights.head = "keep" keeps its head, too.'
    )


def extends(out: Path, config: RunConfig) -> bool:
    """Whether `config` is another length for the run that left what is in `out`."""
    begun = locations.absolute(configs.read(out / RUN_FILE))
    return any(_below(path, LENGTH) for path in configs.differences(begun, config))


def adopt(out: Path, config: RunConfig) -> None:
    """Make `config` the run whose model is about to be in `out`: a result that is there was
    another's."""
    (out / RESULT).unlink(missing_ok=True)
    written = (out / RUN_FILE).with_suffix(".tmp")
    written.write_text(configs.dumps(config, out), encoding="utf-8")
    written.replace(out / RUN_FILE)
    folder_code.remember(out / RUN_FILE, configs.table(config))


def inside(out: Path, config: RunConfig) -> bool:
    """Begin a run in an empty folder, or in one below a folder that is claimed already; True where
    it was begun before."""
    if (out / RUN_FILE).exists():
        return True
    out.mkdir(parents=True, exist_ok=True)
    (out / RUN_FILE).write_text(configs.dumps(config, out), encoding="utf-8")
    folder_code.remember(out / RUN_FILE, configs.table(config))
    return False


def runs(config: RunConfig, out: Path) -> tuple[tuple[str, RunConfig, Path], ...]:
    """(name, run, its folder) of all that a run file asks for, in order: its variants, its stages,
    of which the last may be `<stage>/<variant>`, or itself."""
    if config.stage:
        return tuple(
            (f"{stage}/{name}" if whole.variant else stage, run, into)
            for stage, whole in configs.stages(config, out)
            for name, run, into in runs(whole, out / stage)
        )
    if config.variant:
        return tuple((name, run, out / name) for name, run in configs.expand(config))
    return ((config.name, config, out),)


def release(out: Path) -> None:
    """Let go of a folder in which nothing came about but run files, so that a run that was
    refused leaves no trace."""
    if all(path.name in (RUN_FILE, LOCK) for path in out.rglob("*") if path.is_file()):
        shutil.rmtree(out, ignore_errors=True)


def of(config: RunConfig) -> Path:
    """Where a run writes unless it is told otherwise: its `out`, else `runs/<name>`."""
    return Path(config.out or Path("runs") / config.name)


def _lengthens(path: str, config: RunConfig) -> bool:
    """Whether a dotted path says how long a run goes on that no later stage starts from."""
    last = f"stage.{len(config.stage) - 1}."
    return _below(path, LENGTH) and (not config.stage or path.startswith((last, "variant.")))


def _below(path: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted path is below one of some keys, in the run or in a part of it."""
    path = re.sub(r"^(stage|variant)\.\d+\.", "", path)
    return any(f"{path}.".startswith(f"{key}.") for key in keys)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole."""
    written = path.with_suffix(".tmp")
    written.write_text(json.dumps(content, indent=2) + "\n")
    written.replace(path)


def read_result(out: Path) -> dict[str, Any] | None:
    """What a finished run or study left in its `result.json`; None where it has not finished.
    Raises CheckpointError where it is damaged."""
    path = out / RESULT
    return read_object(path, AGAIN) if path.exists() else None


def read_run(out: Path) -> dict[str, Any] | None:
    """`read_result` of one run, in which all is there that variants are compared by."""
    found = read_result(out)
    if found is None:
        return None
    match found.get("selection"):
        case [str(metric), str()]:
            needs = {"val": {metric: NUMBER}, "test": {metric: NUMBER}}
        case _:
            needs = {"selection": ()}  # whatever it is, it is none
    require(found, {**COMPARED, **needs}, out / RESULT, AGAIN)
    return found
