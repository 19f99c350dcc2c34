"""What would run, without running it: phases, trainable counts, and what each divergence costs.

Costs are floating point operations of the step before compilation, with and without
the divergence, so they count the source's forward pass and the gradient it asks for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import jax

from tlx import config as configs
from tlx.assemble import Experiment
from tlx.config import RunConfig
from tlx.feeding.feed import streams
from tlx.objective import Term
from tlx.planning import preparations
from tlx.planning.plan import Planned
from tlx.reporting.describe import described
from tlx.reporting.wording import duration, headline
from tlx.run_folder import folder
from tlx.studies.stages import rehearsed
from tlx.training.step_program import build_step
from tlx.training.train_state import fresh_state

TIMED = 3
"""Steps that are measured."""


def show(config: RunConfig, *, timed: bool = False) -> dict[str, Any]:
    """Plain data about the run, or about each stage or variant by name; `timed`: a few steps of
    each phase are compiled and measured, too."""
    configs.check(config)
    runs = rehearsed(config, folder.of(config))
    return {"name": config.name, "runs": {name: _shown(found, timed) for name, found in runs}}


def _shown(experiment: Experiment, timed: bool) -> dict[str, Any]:
    about = described(experiment)
    about.pop("config")
    for planned, phase in zip(experiment.phases, about["phases"], strict=True):
        phase |= {"learning_rates": dict(planned.phase.lr), "cost": costs(experiment, planned)}
        if timed and planned.phase.solve is None:
            phase["seconds_a_step"] = measured(experiment, planned)
    inputs = {port.name: asdict(cast("Any", port.input)) for port in experiment.model.ports}
    notes = preparations.notes(experiment.strategy, experiment.model)
    return about | {"steps": experiment.steps, "inputs": inputs, "notes": notes}


def costs(experiment: Experiment, planned: Planned) -> dict[str, float]:
    """Floating point operations of one step: `step` in all, and what each divergence adds."""
    if planned.phase.solve is not None:
        return {}
    every = experiment.terms
    with streams(experiment, 0, {}) as batches:
        batch = next(batches)
    state = fresh_state(experiment, planned)

    def flops(terms: tuple[Term, ...]) -> float:
        objective = replace(experiment.objective(planned), terms=terms)
        lowered = build_step(experiment, planned, objective).lower(
            state, experiment.constants, batch
        )
        return float((lowered.cost_analysis() or {}).get("flops", float("nan")))

    whole = flops(every)
    found = {"step": whole}
    for term in every:
        without = tuple(other for other in every if other is not term)
        found[f"divergence/{term.name}"] = whole - flops(without)
    return found


def measured(experiment: Experiment, planned: Planned) -> float:
    """Seconds that a step of a phase takes on this machine, of a few after the first."""
    with streams(experiment, 0, {}) as batches:
        batch = next(batches)
    state, constants = fresh_state(experiment, planned), experiment.constants
    step = build_step(experiment, planned, experiment.objective(planned))
    compiled = step.lower(state, constants, batch).compile()
    begun = 0.0
    for number in range(1 + TIMED):  # the first is not like the rest
        state, _ = jax.block_until_ready(compiled(state, constants, batch))
        begun = begun if number else time.perf_counter()
    return (time.perf_counter() - begun) / TIMED


def lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    told: list[tuple[str, str]] = []
    for name, run in shown["runs"].items():
        yield name
        label, rows = "", [*headline(run), *(("note", text) for text in run["notes"])]
        for what, text in rows:
            if (what, text) in told:  # variants share most: said once
                continue
            yield f"  {what if what != label else '':<10}  {text}"
            label = what
        told = rows
        for phase in run["phases"]:
            rates = ", ".join(
                f"{group} x {rate:g}" for group, rate in phase["learning_rates"].items()
            )
            if each := phase.get("seconds_a_step"):
                whole = duration(each * phase["steps"])
                yield (
                    f"  {'time':<10}  {phase['name']}: about {whole} here for its steps "
                    f"({each:.2g} s each), without validation"
                )
            cost = phase["cost"]
            if not cost:
                continue
            yield (
                f"  {'cost':<10}  {phase['name']}: {cost['step'] / 1e9:,.2f} GFLOP a step"
                f"{f'; learning rate: {rates}' if rates else ''}"
            )
            for key, added in cost.items():
                if key != "step":
                    share = 100 * added / max(cost["step"] - added, 1)
                    yield f"  {'':<10}  {key} adds {added / 1e9:,.3f} GFLOP ({share:.1f} %)"
