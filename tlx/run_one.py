"""One run from configuration to result: assemble, train, test once, save.

What is left in the folder explains itself: the resolved run file, metrics, checkpoints, the
model, the result and a report. The test split is opened once, after everything was chosen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlx import config as configs
from tlx import folder, registry, trees
from tlx.assemble import Experiment, assemble
from tlx.config import RunConfig
from tlx.describe import described, device, versions
from tlx.errors import ConfigError
from tlx.evaluate import counted, samples
from tlx.loop import Trained, eval_batches, evaluated, train
from tlx.protocols import Finishes, Sink
from tlx.saved import load, save_model
from tlx.sinks import Jsonl, Sinks
from tlx.splits import shuffled
from tlx.types import Event, Variables


def run_one(
    config: RunConfig,
    out: Path,
    console: Sink,
    *,
    resume: bool = False,
    variant: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train what `config` says in the folder `out`, which is claimed already. Returns what
    `result.json` holds. A finished run that is resumed is not trained again."""
    finished = folder.read_result(out) if resume else None
    if finished is not None:
        return finished
    started = time.perf_counter()
    sinks = listening(config, console, Jsonl())
    try:
        experiment = assemble(config)
        sinks.emit(
            Event("start", 0, {**described(experiment), "out": str(out), "variant": variant})
        )
        trained = train(experiment, out, sinks, resume=resume)
        variables = _finish(experiment, trained.variables)
        result, data = _result(experiment, trained, variables, started)
        save_model(
            out / folder.MODEL,
            backbone=config.backbone,
            head=config.head,
            inputs=experiment.model.inputs,
            canvas=experiment.canvas,
            classes=experiment.info.classes,
            variables=variables,
        )
        folder.write_json(out / folder.RESULT, result)
        ways = [f"tlx predict {out} IMAGE...", f"tlx eval {out}"]
        if not config.head:
            backbone = f"--backbone {config.backbone.name} --weights {out}"
            ways = [f"tlx finetune FOLDER {backbone}"]
        curves = str(out / folder.METRICS)
        sinks.emit(
            Event(
                "finish", trained.steps, {**data, "result": result, "curves": curves, "next": ways}
            )
        )
        return result
    finally:
        sinks.close()


def listening(config: RunConfig, *own: Sink) -> Sinks:
    """Everybody who hears of a run: the core's own sinks, then those that the run file names."""
    named = (registry.build("sinks", part.name, part.options) for part in config.sink)
    return Sinks([*own, *named])


def _finish(experiment: Experiment, variables: Variables) -> Variables:
    if isinstance(experiment.strategy, Finishes):
        batches = eval_batches(experiment, experiment.splits.train)
        return experiment.strategy.finish(experiment.model, variables, batches)
    return variables


def _result(
    experiment: Experiment, trained: Trained, variables: Variables, started: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    last, parts = experiment.phases[-1], experiment.splits
    test = evaluated(experiment, last, variables, parts.test)
    val = trained.val
    if isinstance(experiment.strategy, Finishes):
        val = evaluated(experiment, last, variables, parts.val).metrics
    tested = parts.test
    mixed = replace(tested, indices=tested.indices[shuffled(len(tested), "samples")])
    shown = samples(experiment.model, variables, eval_batches(experiment, mixed), each=12)
    result = {
        "name": experiment.config.name,
        "test": test.metrics,
        "val": dict(val),
        "selection": list(experiment.selection),
        "best_step": trained.best_step,
        "steps": trained.steps,
        "examples": experiment.sizes,
        "weights": experiment.config.weights.name if experiment.config.weights else None,
        "weights_sha256": experiment.report.sha256 if experiment.report else None,
        "trainable_parameters": experiment.trainable,
        "parameters": trees.count(experiment.variables.params),
        "seconds": round(time.perf_counter() - started, 3),
        "compile_seconds": round(trained.compile_seconds, 3),
        "seed": experiment.config.seed,
        "device": device(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    data = {
        "confusion": test.totals.get("measure", {}).get("confusion"),
        "samples": [sample._asdict() for sample in shown],
    }
    return result, data


def evaluate_run(out: Path) -> dict[str, Any]:
    """Metrics on `val` and `test` of the model that a finished run left in `out`, computed anew."""
    config = configs.read(out)
    saved = load(out)
    experiment = assemble(config)
    if set(experiment.variables.params) - {"backbone", "head"} or experiment.model.head is None:
        raise ConfigError(
            f"The run in {out} trained features without a head, so there is nothing to test. Its "
            f"loss is in {out / folder.RESULT}; use the model as weights of another run."
        )
    last, parts = experiment.phases[-1], experiment.splits
    return {
        name: counted(evaluated(experiment, last, saved.variables, subset))
        for name, subset in (("val", parts.val), ("test", parts.test))
    }
