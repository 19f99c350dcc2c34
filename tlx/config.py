"""The run file: TOML to a RunConfig, and back to the resolved file that a run saves.

All problems of a file are reported at once, each with its dotted path. Tables and names are
checked from metadata alone; options are held against the signatures of the plugins they are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from tlx import registry
from tlx.contracts.validation import joined, sentences
from tlx.errors import ConfigError, PluginError, WeightsError, did_you_mean, listed
from tlx.run_file import folder_code
from tlx.run_file.overrides import LISTS, PARTS, Table, expanded, merge
from tlx.run_file.overrides import apply_sets as apply_sets
from tlx.run_file.overrides import differences as _table_differences
from tlx.run_file.packaged_weights import completed
from tlx.run_file.portable import portable, resolved
from tlx.run_file.run_config import OWN_KEYS, RunConfig
from tlx.run_file.run_config import DataConfig as DataConfig
from tlx.run_file.run_config import DivergenceConfig as DivergenceConfig
from tlx.run_file.run_config import HealthConfig as HealthConfig
from tlx.run_file.run_config import OptimizerConfig as OptimizerConfig
from tlx.run_file.run_config import Part as Part
from tlx.run_file.run_config import SourceConfig as SourceConfig
from tlx.run_file.run_config import Variant as Variant
from tlx.run_file.run_config import WeightsConfig as WeightsConfig
from tlx.run_file.run_problems import contradictions, entries, unknown_keys
from tlx.run_file.toml_file import read_table
from tlx.run_file.weight_reference import reference

_DEFAULT_NAMES = {"head": "softmax", "strategy": "finetune", "step": "jit", "optimizer": "adamw"}
KINDS = {
    "data": "datasets",
    "domain": "datasets",
    "backbone": "backbones",
    "weights": "weights",
    "head": "heads",
    "strategy": "strategies",
    "divergence": "divergences",
    "augmentation": "augmentations",
    "step": "steps",
    "sink": "sinks",
    "metric": "metrics",
}
"""Table of a run file -> the kind of plugin that it names."""
_OF_PART = ("name", "out", *PARTS)
"""Keys that a stage or a variant does not lay over the run."""
OFFERED = {"head": ("classes", "outputs", "names", "mean", "std"),
           "data": ("label_kind", "label_needed")}  # fmt: skip
"""Options that the core fills in where the run file does not: table -> names."""


def read(path: str | Path, sets: Sequence[str] = (), *, trust_code: bool = False) -> RunConfig:
    """The run file at `path` (or `run.toml` of a run folder) with `--set` arguments applied.

    A file without a `name` is named after itself. Raises ConfigError for a missing file, wrong
    TOML and, all at once, everything that `parse` refuses; TrustError for a folder whose run
    names code, unless `trust_code`. A file that is named itself is its user's own program."""
    path = Path(path)
    if folder := path.is_dir() and (path / "run.toml").is_file():
        path = path / "run.toml"
    if not path.is_file():
        if path.is_dir():
            raise ConfigError(
                f"{path} is a folder without a run.toml, so not that of a run. Give a run file, or "
                f"train on a folder of pictures with 'tlx finetune {path}'."
            )
        near = [str(p) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ConfigError(f"There is no run file {str(path)!r}.{did_you_mean(str(path), near)}")
    table = resolved(read_table(path), path.parent)
    if folder:
        folder_code.refuse(path, table, trust_code)
    return parse(apply_sets({"name": path.stem, **table}, sets), str(path), names=True)


def parse(
    table: Mapping[str, Any], where: str = "the run file", *, names: bool = False
) -> RunConfig:
    """A run's table as a RunConfig; raises one ConfigError with every problem.

    `where` names the table in the error. Stages and variants are laid over the run and checked as
    well.
    With `names`, an error also lists the plugin names that `check` would refuse afterwards."""
    base = completed(expanded(table))
    config, problems = _validated(base)
    alone = _named({key: value for key, value in base.items() if key not in PARTS})
    for key in PARTS:
        for number, part in enumerate(entries(base.get(key))):
            before = {"weights": _of_run("")} if key == "stage" and number else {}
            laid = merge(alone | before, {k: v for k, v in part.items() if k not in _OF_PART})
            more = _validated(laid)[1]
            problems += [f"{key}.{number}.{p}" for p in more if p not in problems]
            if key == "stage" and number == len(base[key]) - 1:
                alone = laid
    if problems and names:
        problems += _unknown_names(table)
    _refuse(where, problems)
    assert config is not None
    return config


def expand(config: RunConfig) -> tuple[tuple[str, RunConfig], ...]:
    """(name, run) of every variant, or the run itself under its own name where it has none.

    A variant's run is named `<run>-<variant>` and writes to `<out>/<variant>`. Those of a run with
    stages belong to its last stage; see `stages`."""
    if not config.variant:
        return ((config.name, config),)
    return tuple(
        (v.name, parse(_laid_over(config, v, config.out, {}), f"variant {v.name!r}"))
        for v in config.variant
    )


def stages(config: RunConfig, out: str | Path) -> tuple[tuple[str, RunConfig], ...]:
    """(name, run) of every stage, in order, of a run that writes to `out`; none where it has none.

    A stage's run is named `<run>-<stage>` and writes to `<out>/<stage>`. Its weights are the
    backbone of the stage before unless it sets others; the last stage has the run's variants."""
    found, whole, before = [], table(config), {}
    for number, stage in enumerate(config.stage, start=1):
        laid = _laid_over(config, stage, out, before)
        if number == len(config.stage) and config.variant:
            laid["variant"] = whole["variant"]
        found.append((stage.name, parse(laid, f"stage {stage.name!r}")))
        before = {"weights": _of_run(Path(out).absolute() / stage.name)}
    return tuple(found)


def table(config: RunConfig) -> Table:
    """The resolved table of a run: what `parse` turns into the same RunConfig again."""
    return {
        key: value
        for f in fields(config)
        for key, value in [(f.name, _plain(getattr(config, f.name)))]
        if value is not None or f.name in ("weights", "head")
        if value not in ([], {}) or f.name == "sink"
    } | {key: "none" for key in ("weights", "head") if getattr(config, key) is None}


def dumps(config: RunConfig, folder: Path | None = None) -> str:
    """The resolved run file, for a `folder` as `tlx.run_file.portable` says. Raises ConfigError for
    options that TOML cannot hold."""
    try:
        whole = table(config)
        return tomli_w.dumps(portable(whole, folder) if folder else whole)
    except TypeError as error:
        raise ConfigError(f"The run {config.name!r} fits in no run file: {error}.") from error


def differences(a: RunConfig, b: RunConfig) -> tuple[str, ...]:
    """Dotted paths at which two runs differ."""
    return _table_differences(table(a), table(b))


def check(config: RunConfig) -> None:
    """Refuse, all at once, what the plugins that a run, its stages and its variants name cannot do.

    First every value and every name, from metadata alone; only then are the plugins imported
    and the options held against their factories. Raises ConfigError."""
    where = f"The run {config.name!r}"
    parse(table(config), where)
    plugins = registry.find()
    problems = []
    for place, key, part in _parts(config):
        try:
            registry.choose(KINDS[key], part.name, plugins)
        except PluginError as error:
            problems.append(f"{place}: {error}")
    _refuse(where, problems)
    for place, key, part in _parts(config):
        try:
            factory = registry.load(KINDS[key], part.name)
        except PluginError as error:
            problems.append(f"{place}: {error}")
        else:
            given = OFFERED.get(key, ())
            beside = OWN_KEYS[key][1:]
            problems += registry.check_options(factory, part.options, given, place, beside)
    _refuse(where, problems)


def _parts(config: RunConfig) -> list[tuple[str, str, Any]]:
    """(dotted path, key, part) of every plugin that a run names; what a stage or a variant
    inherits, once."""
    runs = [("", config)]
    runs += [(f"stage.{n}", run) for n, (_, run) in enumerate(stages(config, ""))]
    if config.variant:
        runs += [(f"variant.{n}", run) for n, (_, run) in enumerate(expand(runs[-1][1]))]
    found: list[tuple[str, str, Any]] = []
    for where, run in runs:
        for key in KINDS:
            value = getattr(run, key)
            entries = (
                [(f"{key}.{n}", part) for n, part in enumerate(value)]
                if isinstance(value, tuple)
                else [(key, value)]
            )
            entries += [
                (f"sources.{name}.{key}", getattr(source, key))
                for name, source in run.sources.items()
                if key in ("backbone", "weights")
            ]
            known = [(k, part.name, part.options) for _, k, part in found]
            found += [
                (joined(where, place), key, part)
                for place, part in entries
                if part is not None and (key, part.name, part.options) not in known
            ]
    return found


def _unknown_names(table: Mapping[str, Any]) -> list[str]:
    """What `check` says of the names in a table that has other problems, too."""
    plugins = registry.find()
    problems = []
    for key, value in _named(expanded(table)).items():
        several = isinstance(value, (list, tuple))
        for number, entry in enumerate(value if several else [value]):
            name = entry.get("name") if isinstance(entry, Mapping) else entry
            if key not in KINDS or not isinstance(name, str) or name == "none":
                continue
            try:
                name = reference(name) if key == "weights" else name
                registry.choose(KINDS[key], name, plugins)
            except PluginError as error:
                problems.append(f"{joined(key, str(number)) if several else key}: {error}")
            except WeightsError:
                continue  # a file that is there and is none has been told
    return problems


def _refuse(where: str, problems: Sequence[str]) -> None:
    if problems:
        many = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{where} has {many}:\n  " + "\n  ".join(problems))


def _plain(value: Any) -> Any:
    """A value of a RunConfig as TOML has it; options stand beside the name again."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    own = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    beside = own.pop("options", None) or own.pop("overrides", None) or {}
    own.pop("overrides", None)
    own = {key: v for key, v in own.items() if v is not None and v != []}
    if clash := beside.keys() & {f.name for f in fields(value)}:
        raise ConfigError(
            f"The options of {own['name']!r} cannot be called {listed(sorted(clash))}: these are "
            f"tlx's own keys in the same table."
        )
    return own | beside


def _laid_over(
    config: RunConfig, part: Variant, out: str | Path | None, before: Mapping[str, Any]
) -> Table:
    """The table of a stage or a variant; `before` takes the place of keys of the run itself."""
    base = {**table(config), **before, "name": f"{config.name}-{part.name}"}
    base = {key: value for key, value in base.items() if key not in PARTS}
    if out is not None:
        base["out"] = str(Path(out) / part.name)
    return merge(base, expanded(part.overrides))


def _of_run(out: str | Path) -> Table:
    """The weights of a run's folder, as a table."""
    return {"name": f"run:{out}"}


def _named(table: Mapping[str, Any]) -> Table:
    """`table` with the names that a table of options may leave out."""
    named = {
        key: {"name": name, **table[key]}
        for key, name in _DEFAULT_NAMES.items()
        if isinstance(table.get(key), Mapping)
    }
    return {**table, **named}


def _validated(table: Mapping[str, Any]) -> tuple[RunConfig | None, list[str]]:
    """(the run, []) or (None, every problem) for an expanded table."""
    long = _named(table)
    problems = unknown_keys(long) + contradictions(long)
    known = {f.name for f in fields(RunConfig)}
    shaped: Table = {}
    for key in (key for key in long if key in known):
        try:
            shaped[key] = _shaped(key, long[key])
        except WeightsError as error:  # a file that is there and is none
            problems.append(f"{key}: {error}")
    try:
        config = _adapter().validate_python(shaped)
    except ValidationError as error:
        return None, problems + sentences(error, shaped, "")
    return (None if problems else config), problems


@cache
def _adapter() -> TypeAdapter[RunConfig]:
    return TypeAdapter(RunConfig)


def _shaped(key: str, value: Any) -> Any:
    """A value of the run's table as the dataclasses have it: options apart, 'none' as None."""
    if value == "none" and key in ("weights", "head"):
        return None
    if isinstance(value, list) and key in (*LISTS, *PARTS):
        return [_shaped(f"{key}.", entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    if key.rstrip(".") in PARTS:
        rest = {k: _frozen(v) for k, v in value.items() if k != "name"}
        return {k: value[k] for k in value if k == "name"} | {"overrides": rest}
    if key == "sources":
        return {
            name: {k: _shaped(k, v) for k, v in source.items()}
            if isinstance(source, Mapping)
            else source
            for name, source in value.items()
        }
    own = OWN_KEYS.get(key.rstrip("."))
    if own is None:
        return value
    options = {k: _frozen(v) for k, v in value.items() if k not in own}
    kept = {k: v for k, v in value.items() if k in own} | {"options": options}
    if key == "weights" and "path" not in options and isinstance(typed := kept.get("name"), str):
        kept["name"] = reference(typed)  # a file or a folder as it is
    return kept


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return {key: _frozen(v) for key, v in value.items()}
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value
