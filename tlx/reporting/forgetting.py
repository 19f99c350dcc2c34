"""What a run has forgotten of its source, measured once at its end, on a few hundred pictures.

How far each stage has moved, how much its features still say the same of the target's pictures,
whether the source's own head would still answer as it did and, where the source is a run whose
data are there, how well it still does what it was trained for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import config as configs
from tlx import trees
from tlx.assemble import Experiment
from tlx.backbones.leaves import leaf_of
from tlx.config import RunConfig
from tlx.data.collate import collate_ports
from tlx.data.splits import Subset, shuffled
from tlx.data.targets import head_over, kind_of, open_source
from tlx.devices import hosts
from tlx.devices.compiled import compiled
from tlx.devices.mesh import fetched
from tlx.errors import TlxError
from tlx.evaluate import evaluate, evaluator
from tlx.feeding.feed import eval_batches
from tlx.model import Model, pooled
from tlx.numerics import drift
from tlx.planning.splitting import cut
from tlx.protocols import Staged
from tlx.run_file.folder_code import TRUSTING
from tlx.run_folder.folder import RUN_FILE
from tlx.stream import evaluation
from tlx.types import Batch, Constants, Variables
from tlx.weights import saved, sources
from tlx.weights.as_loaded import supervised

PICTURES = 256
"""Of the test split that are looked at."""
WHOLE = "backbone"
"""What the drift of all stages together is called."""


class Seen(NamedTuple):
    """What a network says of pictures: `features` (N,C) by name, the mean over places of a map,
    and the `outputs` (N,C) of the source's head, None without one."""

    features: dict[str, np.ndarray]
    outputs: np.ndarray | None


def forgotten(experiment: Experiment, variables: Variables) -> dict[str, Any] | None:
    """What became of the source; `variables` are those that the network runs with at the end.

    `drift`: ‖w − w₀‖ / ‖w₀‖ of the `backbone` that was loaded and of each of its stages. Where
    something moved, also `cka` by feature, `examples` that it was measured on; `kl` and `agreement`
    (how often the most likely class is the same) of the source's head on what the backbone says
    now against then, where the file has one; and `source`: a metric of the source's own test
    pictures `before` and `after`. None without weights."""
    if experiment.report is None:
        return None
    begun = experiment.used(experiment.variables)
    then, now = (trees.flat(_body(fetched(numbers))) for numbers in (begun, variables))
    loaded = {leaf.path for leaf in experiment.report.loaded}
    params = {
        path: leaf for path, leaf in then.items() if path.startswith("params/") and path in loaded
    }
    found: dict[str, Any] = {"drift": _drift(experiment, params, now)}
    if all(np.array_equal(leaf, now[path]) for path, leaf in then.items()):
        return found
    pictures = _some(experiment.splits.test)
    head = _source_head(experiment)
    before, after = (_seen(experiment, head, numbers, pictures) for numbers in (begun, variables))
    alike = {name: drift.cka(x, after.features[name]) for name, x in before.features.items()}
    found["cka"] = {name: value for name, value in alike.items() if value is not None}
    found["examples"] = len(pictures)
    if before.outputs is not None and after.outputs is not None:
        found["kl"] = drift.kl(before.outputs, after.outputs)
        same = before.outputs.argmax(1) == after.outputs.argmax(1)
        found["agreement"] = float(same.mean())
    own = None if hosts.several() else _own_task(experiment, fetched(variables))
    return found | ({"source": own} if own else {})


def _body(variables: Variables) -> dict[str, Any]:
    return {
        "params": {"backbone": variables.params["backbone"]},
        "state": {"backbone": variables.state["backbone"]},
    }


def _drift(
    experiment: Experiment, then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]
) -> dict[str, float]:
    backbone = experiment.model.backbone

    def groups(path: str) -> tuple[str, str]:
        return WHOLE, f"/{leaf_of(backbone, path.removeprefix('params/backbone/')).stage}"

    found = drift.relative_l2(then, now, groups)
    whole = {WHOLE: found.pop(WHOLE)} if found else {}
    by_stage = {name.removeprefix("/"): value for name, value in found.items()}
    order = backbone.stages if isinstance(backbone, Staged) else tuple(by_stage)
    return whole | {name: by_stage[name] for name in order if name in by_stage}


def _some(subset: Subset) -> Subset:
    chosen = np.sort(subset.indices[shuffled(len(subset), "forgetting")[:PICTURES]])
    return replace(subset, indices=chosen)


def _source_head(experiment: Experiment) -> sources.Source | None:
    """The head of the weights' file, over its own classes, where it tells classes apart."""
    config = experiment.config
    if config.weights is None or kind_of(config.head) == "number":
        return None
    return sources.headed(config.weights, experiment.model, partial(head_over, config.head))


def _seen(
    experiment: Experiment, source: sources.Source | None, variables: Variables, subset: Subset
) -> Seen:
    look = _look(experiment.final.model, source.model if source else None)
    top = source.variables if source else Variables({}, {})
    features, outputs = [], []
    for batch in eval_batches(experiment, subset):
        counted = np.asarray(fetched(batch.weight)) > 0
        said, answer = fetched(look(variables, top, batch))
        features.append({name: np.asarray(x)[counted] for name, x in said.items()})
        outputs.append(None if answer is None else np.asarray(answer)[counted])
    names = [spec.name for spec in experiment.model.backbone.features]
    joined = {name: np.concatenate([f[name] for f in features]) for name in names}
    told = [answer for answer in outputs if answer is not None and answer.ndim == 2]
    return Seen(joined, np.concatenate(told) if len(told) == len(outputs) else None)


@lru_cache(maxsize=4)
def _look(model: Model, headed: Model | None) -> Callable[..., Any]:
    """The numbers of a network and of the source's head, and a batch -> features, and what that
    head answers; the same program for the same models, so that a sweep compiles it once."""

    def look(variables: Variables, top: Variables, batch: Batch) -> Any:
        how: Any = {"rng": jax.random.key(0), "mode": "eval"}
        features, _ = model.features(variables, batch, **how)
        answer = None
        if headed is not None:
            answer, _ = headed.apply_head(top, features, inputs=batch.inputs, **how)
        return {name: pooled(x) for name, x in features.items()}, answer

    return compiled(look)


def _own_task(experiment: Experiment, variables: Variables) -> dict[str, Any] | None:
    """How well the source does on its own test pictures, with its own head, `before` and with the
    backbone as it is now; None where the source is no run, its data are not there, or it names code
    that is not trusted."""
    run = _run_of(experiment.config)
    if run is None:
        return None
    try:
        trust = bool(of.options.get(TRUSTING)) if (of := experiment.config.weights) else False
        config = configs.read(run, trust_code=trust)
        source = saved.load(run, trust_code=trust)
        head, model = source.model.head, source.model
        if head is None or model.backbone != experiment.model.backbone:
            return None
        data = open_source(config.data, config.head)
        pictures = _some(cut(data, config.data).test)
    except (TlxError, OSError):
        return None
    totals, constants = evaluator(model, supervised), Constants({}, {}, {}, {})
    now = Variables(
        {**source.variables.params, "backbone": variables.params["backbone"]},
        {**source.variables.state, "backbone": variables.state["backbone"]},
    )
    metric, direction = head.selection
    values = []
    for numbers in (source.variables, now):
        batches = evaluation(pictures, collate_ports(model.ports, data.info), batch_size=64)
        values.append(evaluate(totals, model, numbers, constants, batches).metrics[metric])
    return {
        "name": config.name,
        "metric": metric,
        "direction": direction,
        "before": values[0],
        "after": values[1],
        "examples": len(pictures),
    }


def _run_of(config: RunConfig) -> Path | None:
    """The folder of the run that the weights are of."""
    if config.weights is None or config.weights.name.split("/")[-1] != "run":
        return None
    path = Path(str(config.weights.options.get("path", ""))).expanduser()
    folder = path.parent if path.name == "model" else path
    return folder if (folder / RUN_FILE).is_file() else None
