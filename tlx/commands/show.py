"""What would run, without running it: phases, trainable counts, and what each divergence costs.

Costs are floating point operations of the step before compilation, with and without
the divergence, so they count the source's forward pass and the gradient it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tlx import config as configs
from tlx.assemble import Experiment
from tlx.config import RunConfig
from tlx.feeding.feed import streams
from tlx.objective import Term
from tlx.planning.plan import Planned
from tlx.reporting.describe import described
from tlx.reporting.wording import headline
from tlx.run_folder import folder
from tlx.studies.stages import rehearsed
from tlx.training.train_state import fresh_state


def show(config: RunConfig) -> dict[str, Any]:
    """Plain data about the run, or about each stage or variant by name."""
    configs.check(config)
    runs = rehearsed(config, folder.of(config))
    return {"name": config.name, "runs": {name: _shown(found) for name, found in runs}}


def _shown(experiment: Experiment) -> dict[str, Any]:
    about = described(experiment)
    about.pop("config")
    for planned, phase in zip(experiment.phases, about["phases"], strict=True):
        phase |= {"learning_rates": dict(planned.phase.lr), "cost": costs(experiment, planned)}
    return about | {"steps": experiment.steps, "canvas": experiment.canvas}


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
        step = experiment.step.build(
            objective, experiment.update(planned), planned.trainable, experiment.mesh
        )
        lowered = step.lower(state, experiment.constants, batch)
        return float((lowered.cost_analysis() or {}).get("flops", float("nan")))

    whole = flops(every)
    found = {"step": whole}
    for term in every:
        without = tuple(other for other in every if other is not term)
        found[f"divergence/{term.name}"] = whole - flops(without)
    return found


def lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    told: list[tuple[str, str]] = []
    for name, run in shown["runs"].items():
        yield name
        label, rows = "", headline(run)
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
