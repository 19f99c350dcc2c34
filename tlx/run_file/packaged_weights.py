"""Which packaged weights belong to which backbone: what a run gets that names no weights.

This is the one place that decides it, for run files, their variants and sources, `tlx finetune`
and `tlx rank` alike. A backbone with other options than the weights were made for is another
network: it gets none, and that is said. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tlx import registry
from tlx.contracts.made_for import MadeFor, purpose
from tlx.errors import ConfigError, PluginError, listed
from tlx.run_file.overrides import PARTS, Table, merge

NONE = "none"
SOME = (
    "a file, the folder of a run, or a repository of the hub, such as hf:timm/resnet18.a1_in1k for "
    "resnet18"
)
"""What would give a network numbers that somebody has learnt."""


class Packages(NamedTuple):
    """Names of packaged weights: those that `fit` a backbone as it is, and what the `others` were
    made for, which is the same backbone with other options."""

    fit: tuple[str, ...]
    others: Mapping[str, MadeFor]


def packages(backbone: str, options: Mapping[str, Any]) -> Packages:
    """What is installed for a backbone with these options; nothing for a reference that nobody
    knows, or to a file."""
    try:
        plugin = registry.choose("backbones", backbone)
    except PluginError:
        return Packages((), {})
    if plugin is None:
        return Packages((), {})
    fit, others = [], {}
    for weights in registry.find("weights"):
        if not weights.name.startswith(f"{plugin.name}-"):
            continue
        try:
            made = purpose(registry.load("weights", weights.reference))
        except PluginError:
            continue  # `tlx plugins --check` says why
        if made is None or _meant(made, weights) != plugin:
            continue
        if made.fits(options):
            fit.append(weights.name)
        else:
            others[weights.name] = made
    return Packages(tuple(fit), others)


def owner(weights: str) -> str | None:
    """The backbone that packaged weights were made for; None for what is none of them."""
    try:
        plugin = registry.choose("weights", weights)
        made = purpose(registry.load("weights", weights)) if plugin else None
    except PluginError:
        return None
    return made.backbone if made else None


def completed(table: Mapping[str, Any]) -> Table:
    """An expanded run table in which every backbone without weights has its packaged ones: the
    run's, those of its stages and variants, and its sources'. ConfigError where several would do.
    """
    done = _with_sources(_filled(table), {})
    if not _left_out(table):
        start = None
    elif stages := [part for part in _entries(table, "stage") if isinstance(part, Mapping)]:
        first = _laid(table, stages[0])
        start = first if len(stages) == 1 else None  # later ones start from the stage before
    else:
        start = table
    for key in PARTS:
        if not isinstance(table.get(key), (list, tuple)):
            continue
        parts = [_with_sources(p, table) if isinstance(p, Mapping) else p for p in table[key]]
        if key == "stage" and _left_out(table) and parts:
            parts[0] = _part(table, done, parts[0])
        if key == "variant" and start is not None:
            parts = [_part(start, done, part) for part in parts]
        done[key] = parts
    return done


def random_words(backbone: str, options: Mapping[str, Any]) -> str:
    """What is said of a network that starts at random, and what would give it numbers."""
    random = "every parameter starts at random"
    found = packages(backbone, options)
    if found.fit:
        return f"none, as the run says: {random}; {listed(found.fit)} would fit"
    said = f"none: {random}. "
    for name, made in found.others.items():
        every = {**made.defaults, **made.options}.items()
        own = ", ".join(f"{key} = {value!r}" for key, value in every)
        said += f"The packaged {name} was made for {made.backbone} with {own}. "
    if not found.others:
        said += "No weights are packaged for this backbone. "
    return f"{said}weights (--weights) takes {SOME}."


def _filled(table: Mapping[str, Any]) -> Table:
    """A table with a backbone, the run's or a source's, with the weights that belong to it."""
    backbone, weights = table.get("backbone"), table.get("weights")
    if not _left_out(table) or not isinstance(backbone, Mapping):
        return dict(table)
    name = backbone.get("name")
    if not isinstance(name, str):
        return dict(table)
    found = packages(name, {key: v for key, v in backbone.items() if key != "name"}).fit
    if len(found) > 1:
        raise ConfigError(
            f"Several packaged weights fit the backbone {name!r}: {listed(found)}. Name one of "
            f'them as weights, or "none" to start at random.'
        )
    return {**table, "weights": {"name": found[0], **(weights or {})}} if found else dict(table)


def _left_out(table: Mapping[str, Any]) -> bool:
    """Whether a table does not say where its numbers come from."""
    weights = table.get("weights")
    return "weights" not in table or (isinstance(weights, Mapping) and "name" not in weights)


def _part(start: Mapping[str, Any], done: Mapping[str, Any], part: Any) -> Any:
    """A stage or variant of a run whose weights were left out, with those of its own backbone."""
    if not isinstance(part, Mapping):
        return part
    weights = _filled(_laid(start, part)).get("weights", NONE)
    whole = merge({"weights": done.get("weights", NONE)}, _of_run(part))
    same = whole.get("weights") == weights or not ({"backbone", "weights"} & part.keys())
    return part if same else {**part, "weights": weights}


def _laid(table: Mapping[str, Any], part: Mapping[str, Any]) -> Table:
    return merge({k: v for k, v in table.items() if k not in PARTS}, _of_run(part))


def _of_run(part: Mapping[str, Any]) -> Table:
    return {key: value for key, value in part.items() if key not in ("name", "out", *PARTS)}


def _with_sources(table: Mapping[str, Any], below: Mapping[str, Any]) -> Table:
    """`table` with the weights of the sources that it names; `below` is what it is laid over."""
    sources, known = table.get("sources"), below.get("sources")
    if not isinstance(sources, Mapping):
        return dict(table)
    old = known if isinstance(known, Mapping) else {}
    return {**table, "sources": {
        name: _filled(source)
        if isinstance(source, Mapping) and _left_out(old.get(name) or {})
        else source
        for name, source in sources.items()
    }}  # fmt: skip


def _meant(made: MadeFor, weights: registry.Plugin) -> registry.Plugin | None:
    """The backbone that weights were made for, that of their own distribution before others'."""
    name = made.backbone
    for reference in (name,) if "/" in name else (f"{weights.distribution}/{name}", name):
        try:
            return registry.choose("backbones", reference)
        except PluginError:
            continue
    return None


def _entries(table: Mapping[str, Any], key: str) -> list[Any]:
    found = table.get(key)
    return list(found) if isinstance(found, (list, tuple)) else []
