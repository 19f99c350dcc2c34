"""What an experiment is, in words and numbers: for the first lines of a run, its report, and
`tlx show`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from tlx import __version__, trees
from tlx import config as configs
from tlx.assemble import Experiment
from tlx.plan import Planned
from tlx.protocols import Staged


def described(experiment: Experiment) -> dict[str, Any]:
    """What runs, on what, from where: plain data, the larger part of the `start` event."""
    config, report = experiment.config, experiment.report
    return {
        "device": device(),
        "name": config.name,
        "config": configs.table(config),
        "data": {
            "name": config.data.name,
            "classes": experiment.info.classes,
            "sizes": {n: len(getattr(experiment.splits, n)) for n in ("train", "val", "test")},
            "notes": experiment.splits.notes,
        },
        "backbone": {
            "name": config.backbone.name,
            "parameters": trees.count(experiment.variables.params["backbone"]),
        },
        "weights": report
        and config.weights
        and {
            "name": config.weights.name,
            "loaded": len(report.loaded),
            "initialised": report.initialised,
            "skipped": report.skipped,
        },
        "trainable": experiment.trainable,
        "total": trees.count(experiment.variables.params),
        "phases": [
            {
                "name": planned.phase.name,
                "steps": planned.phase.steps,
                "trainable": planned.moving(experiment.variables.params),
                "norm": planned.phase.norm,
                "frozen_stages": frozen_stages(planned),
            }
            for planned in experiment.phases
        ],
        "divergences": [
            {"name": term.name, "weight": part.weight, "words": sorted(term.words)}
            for term, part in zip(experiment.terms, config.divergence, strict=True)
        ],
        "selection": experiment.selection,
    }


def frozen_stages(planned: Planned) -> list[str]:
    """Names of the backbone's stages that a phase keeps frozen."""
    backbone = planned.model.backbone
    stages = backbone.stages if isinstance(backbone, Staged) else ("backbone",)
    return list(stages[: planned.model.frozen])


def device() -> str:
    """The device in words."""
    first = jax.devices()[0]
    kind = first.device_kind if first.platform != "cpu" else platform.machine()
    return f"{first.platform} ({kind}), {jax.device_count()} device(s)"


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {"python": platform.python_version(), "tlx": __version__}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


