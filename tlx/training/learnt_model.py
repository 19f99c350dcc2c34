"""What an experiment has learnt, as a model folder.

The network is written with all that its pictures need on the way to it. A reparametrised change to
the weights of a file names these, and holds only what is no longer as the file gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tlx import trees
from tlx.assemble import Experiment
from tlx.backbones.shortened import ends_at
from tlx.contracts.field import Restores
from tlx.devices.mesh import fetched
from tlx.protocols import Reparametrises
from tlx.run_file.run_config import Part
from tlx.run_folder.model_folder import Base, save_model
from tlx.types import Variables


def gather_model(experiment: Experiment, learnt: Variables) -> Callable[[Path], None]:
    """The function that writes `learnt`, variables like the experiment's own, as the model in a
    folder. Of several processes each gathers the numbers, and whoever calls the function writes."""
    base, same = _base(experiment, learnt)
    fields = experiment.info.fields
    restored = {n: fields[n] for n in experiment.info.targets if isinstance(fields[n], Restores)}
    return partial(
        save_model,
        backbone=experiment.config.backbone,
        head=experiment.head,
        ports=experiment.model.ports,
        fields={n: fields[n] for p in experiment.model.ports for n in p.fields},
        classes=experiment.info.classes,
        variables=fetched(experiment.used(learnt) if base is None else learnt),
        base=base,
        same=same,
        stages=ends_at(experiment.model.backbone),
        extension=_way(experiment) if experiment.model.extension is not None else None,
        targets=restored,
    )


def _way(experiment: Experiment) -> Part | None:
    """The entry of a run file that builds the strategy as it was set up; None where none does."""
    return experiment.config.strategy if experiment.setup is None else experiment.setup.part


def _base(experiment: Experiment, learnt: Variables) -> tuple[Base | None, frozenset[str]]:
    """For a model that is a reparametrised change to the weights of a file: which these are, and
    the leaves that need not be saved, because they are still what the file gave."""
    config, report = experiment.config, experiment.report
    strategy = isinstance(experiment.strategy, Reparametrises)
    way = _way(experiment)
    if not strategy or report is None or not report.sha256 or config.weights is None or way is None:
        return None, frozenset()
    now, then = (trees.flat(fetched(numbers)) for numbers in (learnt, experiment.variables))
    same = (leaf.path for leaf in report.loaded if np.array_equal(now[leaf.path], then[leaf.path]))
    weights = config.weights
    file, made = (weights.name, dict(weights.options)), (way.name, dict(way.options))
    return Base(file, report.sha256, made, report.prefix), frozenset(same)
