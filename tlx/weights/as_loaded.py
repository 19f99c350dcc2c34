"""Weights measured as they were loaded: no training, and no training data needed.

What a published network reaches on a test split is a number that others have published, too; a
run file that keeps the head of its weights and trains nothing reproduces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tlx import config as configs
from tlx import registry
from tlx.config import RunConfig
from tlx.contracts.file_facts import classes_of, input_of
from tlx.data import splits
from tlx.data.collate import collate_ports
from tlx.data.inputs import as_inputs, bind_inputs, fit_backbone, fit_inputs, trained_inputs
from tlx.data.splits import Subset
from tlx.data.targets import fitted_head, head_over, kept_options, open_source
from tlx.errors import ConfigError, DataError, listed
from tlx.evaluate import counted, evaluate, evaluator
from tlx.model import Model
from tlx.protocols import DataSource
from tlx.run_file.toml_file import read_table
from tlx.stream import closing_batches, evaluation
from tlx.types import Batch, Constants, Forward, Variables
from tlx.weights import sources
from tlx.weights.ending import ending, needed

BATCH = 64
"""Pictures at a time, at least; a run file may ask for more."""


def read(path: Path, sets: Sequence[str] = ()) -> tuple[RunConfig, float | None]:
    """A run file that may say that there is nothing to train, and the number of `epochs` or
    `steps` that it asks for: None where it says nothing, and 0, which a run could not do."""
    config = configs.read(path, [*sets, "steps=1"])  # all that is wrong otherwise is said here
    table = configs.apply_sets(read_table(path), sets)
    return config, table.get("epochs", table.get("steps"))


def keeps_head(config: RunConfig) -> bool:
    """Whether there is something to measure before any training."""
    return config.weights is not None and config.weights.head == "keep"


def measure(config: RunConfig) -> dict[str, Any]:
    """Metrics of the weights as loaded on the `val` and `test` splits that the data bring; where
    they bring none, on the test split that a run would cut. `model` says what was measured.

    What else serves training is not looked at. Raises ConfigError for a run without head,
    WeightsError where the weights do not fit it."""
    if config.head is None or config.weights is None:
        raise ConfigError(f"The run {config.name!r} has no head, so there is nothing to measure.")
    backbone = registry.build("backbones", config.backbone.name, config.backbone.options)
    weights = sources.open_weights(config.weights)
    data = open_source(config.data, config.head)
    classes = data.info.classes
    _same_order(classes_of(weights), classes)
    parts = _measured(data, config)
    labels, kept = next(iter(parts.values())).labels, kept_options(config.weights, weights)
    head = head_over(fitted_head(config.head, data.info, labels, kept), len(classes))
    inputs = trained_inputs(backbone, weights, config.weights.input)
    ports = bind_inputs(inputs, data.info, config.model.inputs)
    ports = fit_inputs(ports, data.info, splits.whole(data, "train"))
    model = Model(fit_backbone(backbone, ports), head, as_inputs(ports))
    initial = replace(sources.begun(model), rng=jax.random.key(config.seed))
    end = ending(model, needed(model))  # the rest may be lacking
    loaded = sources.load(config.weights, weights, initial, None, end.unread)
    totals = evaluator(model, supervised)
    said = input_of(weights) or config.weights.input
    unsaid = "" if said else "; the file does not say how it wants pictures, so they are "
    unsaid += "" if said else "normalised as the backbone has it ([weights] input changes that)"
    found: dict[str, Any] = {
        "model": f"the weights {config.weights.name!r} as loaded, without training{unsaid}"
    }
    for name, subset in parts.items():
        batches = evaluation(
            subset,
            collate_ports(ports, data.info),
            batch_size=min(max(config.batch_size, BATCH), len(subset)),
        )
        nothing = Constants({}, {}, {}, {})
        with closing_batches(batches) as each:
            arrays = (jax.tree.map(jnp.asarray, batch) for batch in each)
            found[name] = counted(evaluate(totals, model, loaded.variables, nothing, arrays))
    return found


def supervised(
    model: Model,
    variables: Variables,
    batch: Batch,
    constants: Constants,
    *,
    rng: jax.Array,
    mode: Any,
    progress: jax.Array,
) -> Forward:
    """Pictures through backbone and head, as a phase's `forward`."""
    return model.apply(variables, batch, rng=rng, mode=mode)


def _measured(data: DataSource, config: RunConfig) -> Mapping[str, Subset]:
    own = [name for name in ("val", "test") if name in data.info.splits]
    if not own:
        part = config.data
        cut = splits.cut(data, val=part.val, test=part.test, seed=part.split_seed)
        return {"test": cut.test}
    found = {}
    for name in own:
        found[name] = splits.whole(data, name)
        if len(found[name]) == 0:
            raise DataError(f"The split {name!r} of {data.info.name!r} is empty.")
    return found


def _same_order(theirs: tuple[str, ...] | None, ours: tuple[str, ...]) -> None:
    """Classes in another order give a plausible model that is wrong about everything."""
    if theirs and theirs != ours and set(theirs) == set(ours):
        raise DataError(
            f"The weights know the classes as {listed(theirs[:4])}, ..., the data as "
            f"{listed(ours[:4])}, ...: the same names in another order. Order the data's classes "
            f"as the weights have them."
        )
