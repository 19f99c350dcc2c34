"""Changing a run's table before it is validated: `--set a.b=value`, stages and variants.

One rule serves all: a table whose `name` changes starts afresh, tables that keep their name are
merged key by key, lists and single values are replaced. Everything here is plain dictionaries.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.run_file.augmentation_presets import written_out

Table = dict[str, Any]

TABLES = ("data", "domain", "backbone", "weights", "head", "strategy", "optimizer", "step")
"""Keys of a run file that hold a table with a `name`."""
LISTS = ("divergence", "augmentation", "sink", "metric")
"""Keys of a run file that hold a list of such tables."""
KEPT = {"divergence": ("label", "source", "schedule"), "metric": ("label",)}
"""Keys of a list's tables that `--set` leaves as they are where it exchanges the plugin."""
PARTS = ("stage", "variant")
"""Keys of a run file that hold a list of changes to the rest of it."""


def expanded(table: Mapping[str, Any]) -> Table:
    """A run's table with its short forms written out.

    A bare string stands for a table with only `name` (a source's, for one with only `run`), a
    single table for a list of one, 'none' for an empty list, a preset for its augmentations.
    Whatever is wrong is left as is."""
    long = dict(table)
    for key in TABLES:
        if key in long:
            long[key] = _with_name(long[key])
    for key in LISTS:
        if isinstance(long.get(key), (str, Mapping)):
            long[key] = [] if long[key] == "none" else [long[key]]
        if isinstance(long.get(key), (list, tuple)):
            long[key] = [_with_name(entry) for entry in long[key]]
    if isinstance(long.get("augmentation"), list):
        long["augmentation"] = written_out(long["augmentation"])
    if isinstance(sources := long.get("sources"), Mapping):
        long["sources"] = {
            key: {"run": source} if isinstance(source, str) else _with_names(source)
            for key, source in sources.items()
        }
    for key in PARTS:
        if isinstance(parts := long.get(key), (list, tuple)):
            long[key] = [expanded(part) if isinstance(part, Mapping) else part for part in parts]
    return long


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Table:
    """`base` with `overrides` laid over it, both `expanded`; neither is changed.

    `epochs` and `steps` exclude each other, so one takes the other's place."""
    merged = dict(base)
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if one in overrides and other not in overrides:
            merged.pop(other, None)
    for key, new in overrides.items():
        old = merged.get(key)
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            merged[key] = new
        elif "name" in new and new["name"] != old.get("name"):
            merged[key] = dict(new)
        else:
            merged[key] = merge(old, new)
    return merged


def apply_sets(table: Mapping[str, Any], sets: Iterable[str]) -> Table:
    """`table`, expanded, with every `a.b=value` applied in order.

    Values are TOML; what is no TOML is a string (`backbone=resnet20`). A table in a list is
    reached by its number from 0 or its label or name (`divergence.l2_sp.weight=0.1`). Raises
    ConfigError for an argument without `=` and for a path that leads nowhere."""
    table = expanded(table)
    for text in sets:
        path, equals, value = text.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"--set {text!r} should look like a.b=value.")
        change = _nested(table, keys, parsed(value.strip(), path), text)
        table = merge(table, expanded(change))
    return table


def parsed(value: str, path: str) -> Any:
    """A value as TOML, or as a string where it is none (or a date, which no option is)."""
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        if value[:1] in ("[", "{", '"', "'"):
            raise ConfigError(f"--set {path}={value} is no valid TOML: {error}.") from error
        try:
            return float(value)  # .5 and 1. are no TOML, but nobody means strings by them
        except ValueError:
            return value
    return value if isinstance(found, (datetime.date, datetime.time)) else found


def differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> tuple[str, ...]:
    """Dotted paths at which two tables differ, in order; lists of tables entry by entry."""
    found: list[str] = []
    for key in dict.fromkeys([*a, *b]):
        path = f"{where}{key}"
        if key not in a or key not in b:
            found.append(path)
            continue
        x, y = (_by_number(t[key]) for t in (a, b))
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += differences(x, y, f"{path}.")
        elif x != y:
            found.append(path)
    return tuple(found)


def _with_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) and value != "none" else value


def _with_names(source: Any) -> Any:
    if not isinstance(source, Mapping):
        return source
    return {key: _with_name(v) if key in TABLES else v for key, v in source.items()}


def _by_number(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
        return {str(number): entry for number, entry in enumerate(value)}
    return value


def _nested(table: Mapping[str, Any], keys: Sequence[str], value: Any, text: str) -> Table:
    """The override that sets `keys` below `table`: lists are rebuilt, tables are left to merge."""
    key, rest = keys[0], keys[1:]
    if not rest:
        return {key: value}
    below = table.get(key, {})
    if isinstance(below, (list, tuple)):
        return {key: _in_list(list(below), key, rest, value, text)}
    if not isinstance(below, Mapping) and below != "none":
        raise ConfigError(f"--set {text!r}: {key!r} is {below!r}, not a table with keys below it.")
    return {key: _nested({} if below == "none" else below, rest, value, text)}


def _in_list(entries: list[Any], key: str, rest: Sequence[str], value: Any, text: str) -> list[Any]:
    """The list with one entry changed; it is reached by `rest[0]`, a number, label or name."""
    names = [
        str(e.get("label") or e.get("name")) if isinstance(e, Mapping) else "" for e in entries
    ]
    which = rest[0]
    at = int(which) if which.isdecimal() else names.index(which) if which in names else -1
    if not 0 <= at < len(entries):
        numbered = listed(f"{number} ({name})" for number, name in enumerate(names))
        raise ConfigError(
            f"--set {text!r}: there is no {which!r} in {key!r}.{did_you_mean(which, names)} "
            f"There is: {numbered}."
        )
    old = {which: entries[at]}
    change = {which: _with_name(_nested(old, rest, value, text)[which])}
    new = merge(old, change)[which]
    if isinstance(new, Mapping) and isinstance(entries[at], Mapping):
        new = {k: entries[at][k] for k in KEPT.get(key, ()) if k in entries[at]} | dict(new)
    entries[at] = new
    return entries
