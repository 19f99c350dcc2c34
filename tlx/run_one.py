"""One run from configuration to result: assemble, train, test once, save.

What is left in the folder explains itself: the resolved run file, metrics, checkpoints, the
model, the result and a report. The test split is opened once, after everything was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tlx import registry, returned, trees
from tlx.assemble import Experiment, assemble
from tlx.boundary import told
from tlx.config import RunConfig
from tlx.contracts.calls import calling, has_returned
from tlx.data.class_examples import examples_by_class
from tlx.data.domain import Domain
from tlx.data.shown import show_examples
from tlx.data.splits import shuffled
from tlx.devices import hosts
from tlx.errors import ConfigError
from tlx.evaluate import Answers, chosen, counted
from tlx.feeding.cache_store import Store
from tlx.feeding.feed import eval_batches
from tlx.loop import Trained, train
from tlx.planning import preparations
from tlx.protocols import Finished, Finishes, Sink
from tlx.reporting import reached
from tlx.reporting.describe import described, device, versions
from tlx.reporting.first_look import first_look
from tlx.reporting.forgetting import forgotten
from tlx.reporting.gallery import gallery
from tlx.reporting.next_command import predict_command
from tlx.reporting.wording import shown
from tlx.run_folder import folder, locations, provenance
from tlx.run_folder.as_before import begun
from tlx.run_folder.membership import MEASURING
from tlx.sinks import Jsonl, Sinks
from tlx.training.health import watch
from tlx.training.learnt_model import gather_model
from tlx.training.profile import Clock
from tlx.training.split_metrics import answered, evaluated
from tlx.types import Event, Variables
from tlx.weights.saved import load


@told()
def run_one(
    config: RunConfig,
    out: Path,
    console: Sink,
    *,
    resume: bool = False,
    variant: Mapping[str, Any] | None = None,
    store: Store | None = None,
    profile: bool = False,
    answering: bool = False,
) -> dict[str, Any]:
    """Train what `config` says in the folder `out`, which is claimed already. Returns what
    `result.json` holds. A finished run that is resumed is not trained again, unless it is longer
    now. `store` holds what other runs of a study computed of the same pictures; `profile` measures
    what takes how long; `answering` leaves what the model says of each test example in
    `answers.npz`.

    The model is written before anything is measured: what cannot be read or drawn afterwards costs
    no training."""
    done = hosts.once(lambda: folder.read_run(out)) if resume else None
    if done is not None and not hosts.once(lambda: folder.extends(out, config)):
        console.emit(Event("note", done["steps"], {"text": ended(config, out, done)}))
        return done
    sinks = listening(config, console, Jsonl())
    clock = Clock(out / folder.PROFILE if profile else None)
    try:
        with clock.part("setup"):
            experiment = assemble(config, begun(out) if resume else None)
            oddities = hosts.once(lambda: first_look(experiment))
            facts = experiment.provenance
            hosts.once(lambda: provenance.keep(out, facts, experiment.subsets))
        sinks.emit(
            Event("start", 0, {**described(experiment), "out": str(out), "variant": variant})
        )
        for text in oddities:
            sinks.emit(Event("warning", 0, {"text": text}))
        for text in preparations.notes(experiment.strategy, experiment.model):
            sinks.emit(Event("note", 0, {"text": text}))
        trained = train(experiment, out, sinks, resume=resume, store=store, clock=clock)
        with clock.part("evaluation"):
            learnt, note = finished(experiment, trained.variables)
        _save(experiment, learnt, out)
        try:
            with clock.part("evaluation"):
                result, data, said = _result(experiment, trained, learnt, clock, sinks)
            if answering and said is not None:
                path, columns = out / folder.ANSWERS, dict(said)
                hosts.once(lambda: np.savez_compressed(path, allow_pickle=False, **columns))
        except Exception:
            text = (
                f"The run is trained and its model lies in {out / folder.MODEL}; it could not be "
                f"measured to the end. Once that is mended (data.unreadable=skip leaves out "
                f"pictures that cannot be read), the same command with --resume does so."
            )
            sinks.emit(Event("warning", trained.steps, {"text": text}))
            raise
        for text in (
            note,
            reached.words(experiment, trained.reached, trained.best_step),
            clock.note(),
        ):
            if text:
                sinks.emit(Event("note", trained.steps, {"text": text}))
        hosts.once(lambda: folder.write_json(out / folder.RESULT, result))
        ways = [predict_command(out), f"tlx eval {out}"]
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
        clock.close()
        sinks.close()


def listening(config: RunConfig, *own: Sink) -> Sinks:
    """Everybody who hears of a run: the core's own sinks, then those that the run file names;
    nobody in a process that others speak for."""
    if not hosts.first():
        return Sinks([])
    named = (registry.build("sinks", part.name, part.options) for part in config.sink)
    return Sinks([*own, *named])


def finished(experiment: Experiment, variables: Variables) -> Finished:
    """What the strategy makes of the best step's variables after training."""
    if not isinstance(strategy := experiment.strategy, Finishes):
        return Finished(variables)
    last, parts, (metric, direction) = experiment.final, experiment.splits, experiment.selection

    def score(candidate: Variables) -> float:
        found = evaluated(experiment, last, experiment.used(candidate), parts.val)
        return found.metrics[metric] * (1 if direction == "max" else -1)

    finish, who = strategy.finish, f"`finish` of the strategy {type(strategy).__name__}"
    with calling(who, finish):
        found = finish(
            model=last.model, start=experiment.variables, variables=variables, score=score,
            batches=lambda: eval_batches(experiment, parts.train),
        )  # fmt: skip
    has_returned(who, finish, found, isinstance(found, Finished), "tlx.protocols.Finished")
    returned.alike(tuple(found.variables), tuple(variables), who, finish)
    return found


def validation(experiment: Experiment, trained: Trained, learnt: Variables) -> Mapping[str, float]:
    """How the model that is kept does on validation, as it predicts: measured here where the loop
    has not, or where the strategy has made `learnt` of its best step."""
    if trained.val is not None and learnt is trained.variables:
        return trained.val
    used = experiment.used(learnt)
    return evaluated(experiment, experiment.final, used, experiment.splits.val).metrics


def ended(config: RunConfig, out: Path, done: Mapping[str, Any]) -> str:
    """What is said of a finished run that somebody goes on with."""
    metric = done["selection"][0]
    return (
        f"{config.name} is finished: {done['steps']} steps, test {metric} "
        f"{shown(metric, done['test'][metric])}. Its model lies in {out / folder.MODEL}, and "
        f"nothing was trained. More epochs or steps, or a larger patience, go on from there."
    )


def _save(experiment: Experiment, learnt: Variables, out: Path) -> None:
    """Write the model, and make the run file there that of this run: what a longer run leaves takes
    the place of a shorter one's model and result at once."""
    write = gather_model(experiment, learnt)
    hosts.once(lambda: folder.adopt(out, experiment.config))
    hosts.once(lambda: write(out / folder.MODEL))


def _result(
    experiment: Experiment, trained: Trained, learnt: Variables, clock: Clock, sinks: Sink
) -> tuple[dict[str, Any], dict[str, Any], Answers | None]:
    """What `result.json` holds, what a report wants besides, and what is said of each test
    example. What only a report wants is left out where it fails, and that is said."""
    last, parts, config = experiment.final, experiment.splits, experiment.config
    variables = experiment.used(learnt)

    def spared(what: str, act: Callable[[], Mapping[str, Any] | None]) -> Mapping[str, Any]:
        try:
            return act() or {}
        except Exception as error:
            if hosts.several():  # the others would wait for this one
                raise
            text = (
                f"{what} could not be made, and is left out: {str(error) or type(error).__name__}"
            )
            sinks.emit(Event("warning", trained.steps, {"text": text}))
            return {}

    test, said = answered(experiment, last, variables, parts.test)
    domain = experiment.domain
    val = validation(experiment, trained, learnt)
    kept = spared("What the run has forgotten", lambda: forgotten(experiment, variables))
    watching = watch(experiment)
    result = {
        "name": config.name,
        "test": test.metrics,
        "val": dict(val),
        **(
            {"domain": {"name": domain.name, **_tested(experiment, domain, variables)}}
            if domain
            else {}
        ),
        **({"forgetting": kept} if kept else {}),
        "selection": list(experiment.selection),
        "best_step": trained.best_step,
        "best_phase": reached.kept(experiment.phases, trained.best_step),
        "reached": {name: dict(best) for name, best in trained.reached.items()},
        "steps": trained.steps,
        **({} if trained.skipped is None else {"skipped": trained.skipped}),
        "examples": experiment.sizes,
        **({"left_out": left_out} if (left_out := parts.unreadable) else {}),
        "weights": config.weights.name if config.weights else None,
        "weights_sha256": experiment.report.sha256 if experiment.report else None,
        **({"setup": dict(experiment.setup.options)} if experiment.setup else {}),
        "trainable_parameters": experiment.trainable,
        "parameters": trees.count(experiment.variables.params),
        "seconds": round(clock.total(), 3),
        "compile_seconds": round(trained.compile_seconds, 3),
        **({"profile": spent} if (spent := clock.spent()) else {}),
        "seed": config.seed,
        "device": device(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    shows = config.sink and hosts.first()
    data = {
        "confusion": test.totals.get("measure", {}).get("confusion"),
        **(spared("Pictures for a report", lambda: _pictures(experiment, said)) if shows else {}),
        **(
            spared("The gallery", lambda: gallery(experiment, watching, variables))
            if watching
            else {}
        ),
    }
    return result, data, said


def _pictures(experiment: Experiment, said: Answers | None) -> dict[str, Any]:
    """What is read again from the data for those who show pictures, which only a sink does that
    the run file names."""
    return {
        "samples": _samples(experiment, said) if said is not None else [],
        "training": examples_by_class(
            experiment.splits.train, experiment.model.ports, experiment.info
        ),
    }


def _samples(experiment: Experiment, said: Answers, each: int = 12) -> list[dict[str, Any]]:
    """Up to `each` wrong and right answers with their pictures, for a report."""
    test = experiment.splits.test
    rows = chosen(said, shuffled(len(test), "samples"), each)
    looks = show_examples(test, rows, experiment.model.ports, experiment.info)
    columns = {name: said[name][rows].tolist() for name in said if name != "index"}
    return [
        {"probability": None, **{name: column[k] for name, column in columns.items()}}
        | ({"text": look} if isinstance(look, str) else {"image": look})
        for k, look in enumerate(looks)
    ]


def _tested(experiment: Experiment, domain: Domain, variables: Variables) -> dict[str, Any]:
    """How the model does on the domain's own test pictures, where their classes are the same."""
    if domain.test is None:
        return {"test": None, "examples": 0}
    found = evaluated(experiment, experiment.final, variables, domain.test)
    return {"test": found.metrics, "examples": len(domain.test)}


def evaluate_run(
    out: Path, sets: Sequence[str] = (), *, trust_code: bool = False
) -> dict[str, Any]:
    """Metrics on `val` and `test` of the model that a finished run left in `out`, computed anew.
    `sets` say where its data lie now. Raises DataError where they are not there, CheckpointError
    where they are not those of the run any more; `trust_code` as for `tlx.load`."""
    config = locations.read_again(out, sets, trust_code=trust_code)
    saved = load(out, trust_code=trust_code)
    experiment = assemble(config, begun(out))
    if experiment.model.head is None:
        raise ConfigError(
            f"The run in {out} trained features without a head, so there is nothing to test. Its "
            f"loss is in {out / folder.RESULT}; use the model as weights of another run."
        )
    tables = ("data", "domain", "inputs", provenance.CONTENT)
    of_data = {name: experiment.provenance.get(name, {}) for name in tables}
    provenance.verify(out, of_data, experiment.subsets, MEASURING)
    last, parts = experiment.final, experiment.splits.parts
    last = last._replace(model=replace(last.model, head=saved.model.head))
    return {
        name: counted(evaluated(experiment, last, saved.variables, parts[name]))
        for name in ("val", "test")
    }
