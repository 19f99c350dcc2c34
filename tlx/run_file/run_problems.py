"""What is wrong with a run's table beyond the types of single values.

Keys that nobody knows, and keys that are each right but contradict one another. The table is
already `tlx.run_file.overrides.expanded`; anything in it may still be of the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tlx.contracts.validation import joined
from tlx.errors import did_you_mean, listed
from tlx.run_file.augmentation_presets import misused
from tlx.run_file.overrides import PARTS
from tlx.run_file.packaged_weights import SOME
from tlx.run_file.run_config import (
    DataConfig,
    HealthConfig,
    MeshConfig,
    MetricConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    SelectionConfig,
    SourceConfig,
)

_SOME = f"weights takes {SOME}"
_TAKEN = (
    "checkpoints",
    "metrics.jsonl",
    "model",
    "provenance.json",
    "report.html",
    "result.json",
    "run.toml",
    "split.csv",
)
"""What lies in a run's folder, beside the folders of its stages or variants."""


def unknown_keys(long: Mapping[str, Any]) -> list[str]:
    """Keys that tlx does not know, where no plugin could."""
    places: list[tuple[str, Any, Any]] = [("", long, RunConfig)]
    places.append(("optimizer", long.get("optimizer"), OptimizerConfig))
    places.append(("health", long.get("health"), HealthConfig))
    places.append(("selection", long.get("selection"), SelectionConfig))
    places.append(("mesh", long.get("mesh"), MeshConfig))
    places.append(("model", long.get("model"), ModelConfig))
    if isinstance(sources := long.get("sources"), Mapping):
        places += [(f"sources.{name}", source, SourceConfig) for name, source in sources.items()]
    problems = []
    for where, found, kind in places:
        allowed = [f.name for f in fields(kind)]
        for key in found if isinstance(found, Mapping) else ():
            if key not in allowed:
                problems.append(
                    f"{joined(where, key)}: unknown key.{_owner(key) or did_you_mean(key, allowed)}"
                    f" Allowed: {listed(allowed)}."
                )
    return problems


def _owner(key: str) -> str:
    """Where a key belongs that stands in a wrong table, as a sentence."""
    owners = (
        (RunConfig, "at the top"),
        (DataConfig, "in [data]"),
        (OptimizerConfig, "in [optimizer]"),
    )
    places = (place for kind, place in owners if key in {f.name for f in fields(kind)} - {"name"})
    return next((f" It belongs {place}." for place in places), "")


def contradictions(long: Mapping[str, Any]) -> list[str]:
    """What is wrong between keys that are each right."""
    problems = []
    if "epochs" in long and "steps" in long:
        problems.append("steps: cannot stand beside epochs; keep one of them.")
    sources = long["sources"] if isinstance(long.get("sources"), Mapping) else {}
    for name, source in sources.items():
        if isinstance(source, Mapping) and ("run" in source) == ("backbone" in source):
            problems.append(
                f"sources.{name}: give either run, the folder of a finished run, or backbone and "
                f"weights."
            )
        elif isinstance(source, Mapping) and ("backbone" in source) != ("weights" in source):
            lacking = "" if "weights" in source else f" No weights are packaged for it; {_SOME}."
            problems.append(
                f"sources.{name}: a backbone and its weights go together; give both.{lacking}"
            )
        elif isinstance(source, Mapping) and source.get("weights") == "none":
            problems.append(
                f"sources.{name}.weights: a source that starts at random has learnt nothing that "
                f"one could be held to. {_SOME[0].upper()}{_SOME[1:]}."
            )
    seen: set[str] = set()
    for number, entry in enumerate(entries(long.get("divergence"))):
        key, source = str(entry.get("label") or entry.get("name")), entry.get("source", "source")
        if key in seen:
            problems.append(
                f"divergence.{number}.label: {key!r} is taken; give each its own label."
            )
        seen.add(key)
        if isinstance(source, str) and source not in ("source", *sources):
            problems.append(
                f"divergence.{number}.source: there is no source {source!r}."
                f"{did_you_mean(source, ['source', *sources])} Sources: "
                f"{listed(['source', *sources])}."
            )
    problems += _metrics(entries(long.get("metric")))
    problems += misused(entries(long.get("augmentation")))
    return problems + _names(long) + _backbones(long)


def _metrics(found: list[Mapping[str, Any]]) -> list[str]:
    """Metrics that are told by the same name."""
    seen: set[str] = set()
    problems = []
    for number, entry in enumerate(found):
        key = str(entry.get("label") or MetricConfig(name=str(entry.get("name"))).key)
        if key in seen:
            problems.append(f"metric.{number}.label: {key!r} is taken; give each its own label.")
        seen.add(key)
    return problems


def _names(long: Mapping[str, Any]) -> list[str]:
    """Names that cannot be folders or come twice, and keys that a stage or a variant has not."""
    problems = []
    parts = [(key, n, part) for key in PARTS for n, part in enumerate(entries(long.get(key)))]
    for where, owner in [("", long), *((f"{key}.{n}", part) for key, n, part in parts)]:
        name = owner.get("name")
        if isinstance(name, str) and not re.fullmatch(r"\w[\w.+-]*", name):
            problems.append(
                f"{joined(where, 'name')}: {name!r} is no name for a folder; use letters, digits, "
                f"-_."
            )
    for key, number, part in parts:
        name, where = part.get("name"), f"{key}.{number}"
        names = [other.get("name") for other in entries(long.get(key))]
        if names.count(name) > 1 or name in _TAKEN:
            problems.append(f"{where}.name: {name!r} is taken; give each {key} a name of its own.")
        for inner in (inner for inner in PARTS if inner in part):
            its_last = ""
            if (key, inner) == ("stage", "variant"):
                its_last = " The [[variant]] tables of the run are those of its last stage."
            problems.append(f"{where}.{inner}: a {key} has no {inner}s of its own.{its_last}")
        if "out" in part:
            problems.append(
                f"{where}.out: a {key} writes to the folder of its name in that of the run; set "
                f"out above."
            )
    return problems


def _backbones(long: Mapping[str, Any]) -> list[str]:
    """Stages that start from the stage before with another backbone."""

    def named(owner: Mapping[str, Any], otherwise: Any) -> Any:
        backbone = owner.get("backbone")
        return backbone.get("name", otherwise) if isinstance(backbone, Mapping) else otherwise

    own, before, problems = named(long, None), None, []
    for number, stage in enumerate(entries(long.get("stage"))):
        now = named(stage, own)
        if number and now != before and "weights" not in stage:
            problems.append(
                f"stage.{number}.backbone: the stage starts from the backbone of the one before, "
                f"which is {before!r} and not {now!r}. Leave it as it is, or set the stage's "
                f'weights; weights = "none" starts at random.'
            )
        before = now
    return problems


def entries(value: Any) -> list[Mapping[str, Any]]:
    """The tables of a list of tables, whatever else may stand there."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, (list, tuple)) else []
