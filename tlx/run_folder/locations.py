"""Where the files of a run lie, said so that the run is found again from any folder.

A run file names files relative to where tlx is started. A run that is kept is opened elsewhere, so
what it keeps names them absolutely. Which options name files, their annotations say
(`tlx.types.Location`); a name that is no file here, such as that of a repository, stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlx import config as configs
from tlx import registry
from tlx.config import KINDS, RunConfig
from tlx.errors import DataError, PluginError
from tlx.run_file.overrides import expanded

_SPLIT = ("data", "domain")
"""Tables in which `scheme:rest` becomes a name and an option, so that `--set data.path=...` can say
where data have moved."""

_MAGIC = re.compile(r"[*?\[{]")


def absolute(config: RunConfig) -> RunConfig:
    """The run with every file and folder that it names, its plugins' own included, as an absolute
    path. The plugins have to be there (`tlx.config.check`)."""
    return configs.parse(_in_table(configs.table(config), {}))


def read_again(out: Path, sets: Sequence[str], *, trust_code: bool) -> RunConfig:
    """The run in a folder, for as few devices as there are here; `sets` say where its data lie
    now. Raises DataError where they are not there."""
    config = configs.read(out, sets, trust_code=trust_code)
    refuse_missing(config, out)
    return replace(config, mesh=None)


def refuse_missing(config: RunConfig, out: Path) -> None:
    """Raise DataError where data of the run in `out` are not where they were."""
    parts = [("data", config.data), *([("domain", config.domain)] if config.domain else [])]
    for key, part in parts:
        for name in _locating(KINDS[key], part.name):
            place = part.options.get(name)
            if not isinstance(place, str) or _MAGIC.search(place):
                continue
            if Path(place).is_absolute() and not Path(place).exists():
                raise DataError(
                    f"The data of the run in {out} are not at {place} any more. If they have "
                    f"moved, say where they are: --set {key}.{name}=PLACE."
                )


def _in_table(table: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's table, or that of a stage or a variant of `run`, whose names it may leave out."""
    table = expanded(table)
    found = dict(table)
    for key, value in table.items():
        if key in KINDS and isinstance(value, Mapping):
            found[key] = _in_part(key, value, run.get(key))
        elif key in KINDS and isinstance(value, list):
            found[key] = [_in_part(key, part, None) for part in value]
        elif key == "sources":
            found[key] = {name: _in_source(source) for name, source in value.items()}
        elif key in ("stage", "variant"):
            found[key] = [_in_table(part, table) for part in value]
    return found


def _in_source(source: Mapping[str, Any]) -> dict[str, Any]:
    run = {"run": _anchored(source["run"])} if source.get("run") else {}
    return _in_table(source, {}) | run


def _in_part(key: str, part: Any, inherited: Any) -> Any:
    """The table of a plugin. One that leaves its name to the run's takes that one's options."""
    if not isinstance(part, Mapping):
        return part
    kind = KINDS[key]
    name = part.get("name") or (inherited.get("name") if isinstance(inherited, Mapping) else None)
    if not isinstance(name, str):
        return dict(part)
    names = _locating(kind, name)
    found = {k: _each(v, _anchored) if k in names else _code(v) for k, v in part.items()}
    scheme, colon, rest = name.partition(":")
    if "name" in part and colon and not registry.is_file(name) and names[:1] == _first(kind, name):
        if key in _SPLIT and names[0] not in part:
            found |= {"name": scheme, names[0]: _anchored(rest)}
        else:
            found["name"] = f"{scheme}:{_anchored(rest)}"
    return found


def _locating(kind: str, name: str) -> list[str]:
    """The options of a plugin that say where something lies."""
    try:
        options = registry.schema(registry.load(kind, name))
    except PluginError:
        return []
    return [option.name for option in options if registry.locates(option.annotation)]


def _first(kind: str, name: str) -> list[str]:
    return [option.name for option in registry.schema(registry.load(kind, name))[:1]]


def _code(value: Any) -> Any:
    """A value in which plugins may be named as `file.py:Object`, at any depth."""
    return _each(value, lambda text: _anchored_code(text) if registry.is_file(text) else text)


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(v, change) for key, v in value.items()}
    return [_each(v, change) for v in value] if isinstance(value, list | tuple) else value


def _anchored_code(text: str) -> str:
    file, colon, thing = text.rpartition(":")
    return f"{_anchored(file)}{colon}{thing}"


def _anchored(text: str) -> str:
    """An absolute path where the text names what is here; of a pattern, where its folder is."""
    fixed = _MAGIC.split(text)[0]
    place = Path(text) if fixed == text else Path(f"{fixed}x").parent
    try:
        there = bool(text) and place.exists()
    except (OSError, ValueError):  # what cannot be a path
        there = False
    return os.path.abspath(text) if there else text
