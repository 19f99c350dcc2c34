"""What an experiment is, as plain data.

For the first lines of a run, its report and `tlx show`; `tlx.reporting.wording` puts it in words.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import jax
import numpy as np

from tlx import __version__, registry, trees
from tlx import config as configs
from tlx.assemble import Experiment
from tlx.backbones.shortened import left_out
from tlx.data.data_check import counts_of
from tlx.data.inputs import find_warnings
from tlx.devices import mesh
from tlx.errors import listed
from tlx.planning.records import needs
from tlx.run_file.packaged_weights import random_words


def described(experiment: Experiment) -> dict[str, Any]:
    """What runs, on what, from where: plain data, the larger part of the `start` event."""
    config, report = experiment.config, experiment.report
    return {
        "device": device(),
        "mesh": mesh.described(experiment.mesh),
        "name": config.name,
        "config": configs.table(config),
        "data": {
            "name": config.data.name,
            "classes": experiment.info.classes,
            "sizes": experiment.sizes,
            "notes": (
                *experiment.splits.notes,
                *_standardised(experiment),
                *_odd(experiment),
                *_repeated(experiment),
            ),
            "counts": {
                name: counts_of(part, experiment.info.classes)
                for name, part in experiment.splits.parts.items()
            },
        },
        "backbone": {
            "name": config.backbone.name,
            "parameters": trees.count(experiment.variables.params["backbone"]),
            "left_out": left_out(experiment.model.backbone),
        },
        "weights": report
        and config.weights
        and {
            "name": config.weights.name,
            "loaded": len(report.loaded),
            "dialect": report.dialect,
            "prefix": report.prefix,
            "changed": [(leaf.path, leaf.change) for leaf in report.loaded if leaf.change],
            "initialised": [(leaf.path, leaf.why) for leaf in report.initialised],
            "skipped": [(tensor.name, tensor.why) for tensor in report.skipped],
            "notes": report.notes,
            "sha256": report.sha256,
        },
        "random": None if report else random_words(config.backbone.name, config.backbone.options),
        "trainable": experiment.trainable,
        "total": trees.count(experiment.variables.params),
        "phases": [
            {
                "name": planned.phase.name,
                "steps": planned.phase.steps,
                "trainable": planned.moving(experiment.variables.params),
                "norm": planned.phase.norm,
                "frozen_stages": planned.model.frozen,
                "solved": planned.phase.solve is not None,
            }
            for planned in experiment.phases
        ],
        "patience": config.patience,
        "divergences": [
            {
                "name": term.name,
                "weight": experiment.weight(term),
                "schedule": term.schedule,
                "words": sorted(needs(term)),
            }
            for term in experiment.terms
        ],
        "domain": experiment.domain
        and {"name": experiment.domain.name, "pictures": len(experiment.domain.train)},
        "selection": experiment.selection,
    }


def _odd(experiment: Experiment) -> tuple[str, ...]:
    """What about the examples does not look like what the network wants."""
    loaded = experiment.report is not None
    return find_warnings(experiment.model.ports, experiment.splits.train, pretrained=loaded)


def _standardised(experiment: Experiment) -> tuple[str, ...]:
    """What targets were divided by."""
    options = experiment.head.options if experiment.head else {}
    mean, std = (np.ravel(options.get(key, ())) for key in ("mean", "std"))
    if not len(mean) or (len(mean) == len(std) and (mean == 0).all() and (std == 1).all()):
        return ()
    names = options.get("names") or [f"target {n}" for n in range(1, len(mean) + 1)]
    each = [
        f"{name} {m:.6g} ± {s:.6g}"
        for name, m, s in zip(names, *np.broadcast_arrays(mean, std), strict=False)
    ]
    return (f"Targets are learnt less their mean, in units of their spread: {listed(each)}.",)


def _repeated(experiment: Experiment) -> tuple[str, ...]:
    """A batch that holds the same picture more than once."""
    batch, there = experiment.config.batch_size, len(experiment.splits.train)
    if batch <= there or all(planned.phase.solve for planned in experiment.phases):
        return ()
    return (
        f"A batch of {batch} is more than the {there} training examples, so a step draws each "
        f"{batch / there:.3g} times; with batch_size = {there} it would draw each once.",
    )


def device() -> str:
    """The device in words."""
    first = jax.devices()[0]
    kind = first.device_kind if first.platform != "cpu" else platform.machine()
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{first.platform} ({kind}), {jax.device_count()} device(s){hosts}"


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    names = ("jax", "jaxlib", "optax", "grain", "numpy")
    plugins = {plugin.distribution: plugin.version for plugin in registry.find()}
    return {
        "python": platform.python_version(),
        "tlx": __version__,
        **{name: metadata.version(name) for name in names},
        **plugins,
    }
