"""What a run without labels has to show for itself, as pictures and numbers for a report.

What the strategy made of some pictures, the training pictures that are nearest to others, and the
features of validation before and after training.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tlx.assemble import Experiment
from tlx.contracts.calls import called
from tlx.devices import mesh
from tlx.evaluate import as_uint8
from tlx.feeding.feed import eval_batches
from tlx.numerics.knn import nearest
from tlx.protocols import Draws
from tlx.training.health import Watch
from tlx.types import Variables

DRAWN, ASKED, NEAREST = 8, 6, 6
"""Pictures that are drawn; pictures whose neighbours are shown; neighbours of each."""


def gallery(experiment: Experiment, watch: Watch, variables: Variables) -> dict[str, Any]:
    """`drawn`, `neighbours` and `features` as `tlx.sinks` lists them, of the validation split;
    `variables` are those that the network runs with after training."""
    return {
        **_drawn(experiment, variables),
        **_neighbours(watch, variables),
        "features": _features(experiment, watch, variables),
    }


def _drawn(experiment: Experiment, variables: Variables) -> dict[str, Any]:
    strategy, model = experiment.strategy, experiment.phases[-1].model
    if not isinstance(strategy, Draws):
        return {}
    batch = mesh.alone(next(iter(eval_batches(experiment, experiment.splits.val))), experiment.mesh)
    variables = mesh.alone(variables, experiment.mesh)
    few = jax.tree.map(lambda leaf: leaf[: min(DRAWN, int(batch.weight.sum()))], batch)
    with called(strategy, "strategy", "draw"):
        found = strategy.draw(model, variables, few, rng=jax.random.key(0))
    return {"drawn": {title: as_uint8(pictures) for title, pictures in found.items()}}


def _neighbours(watch: Watch, variables: Variables) -> dict[str, Any]:
    there, here = watch.seen(variables, watch.train), watch.seen(variables, watch.val)
    _, rows = nearest(there.features, here.features[:ASKED], NEAREST)
    rows = np.asarray(rows)
    known = there.labels is not None and here.labels is not None
    one = np.asarray(watch.shown(watch.val, np.arange(min(ASKED, len(watch.val)))))
    other = np.asarray(watch.shown(watch.train, rows.ravel()))
    return {
        "neighbours": {
            "pictures": one,
            "nearest": other.reshape(*rows.shape, *other.shape[1:]),
            "labels": np.asarray(here.labels)[:ASKED] if known else None,
            "nearest_labels": np.asarray(there.labels)[rows] if known else None,
        }
    }


def _features(experiment: Experiment, watch: Watch, variables: Variables) -> dict[str, Any]:
    before = watch.seen(experiment.used(experiment.variables), watch.val)
    after = watch.seen(variables, watch.val)
    return {
        "before": np.asarray(before.features),
        "after": np.asarray(after.features),
        "labels": after.labels,
    }
