"""From a run file's configuration to an experiment that is ready to run.

Builds every part, opens the data, loads the weights, checks what every divergence asks for, and
refuses whatever cannot work before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tlx import trees
from tlx.config import RunConfig
from tlx.data.collate import Collate, collate_ports
from tlx.data.domain import Domain
from tlx.data.moved_targets import spatial_targets
from tlx.data.splits import Splits
from tlx.devices import hosts
from tlx.devices import mesh as meshes
from tlx.gathered_metrics import NamedMetric
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.planning import (
    batch_sizes,
    dense_labels,
    label_refusals,
    preparations,
    reading,
    records,
    refusals,
    strategy_setup,
    traced_passes,
    traced_terms,
    whole_split_metrics,
)
from tlx.planning.optimizer import hyperparameters, transform
from tlx.planning.plan import Planned, plan
from tlx.planning.start import Start, opened, works_beforehand
from tlx.planning.strategy_setup import Found
from tlx.protocols import (
    Augmentation,
    Averages,
    Learns,
    Mixes,
    Prepares,
    Reparametrises,
    Step,
    Strategy,
)
from tlx.run_file.run_config import Part
from tlx.run_folder.as_before import Begun
from tlx.run_folder.membership import LEFT_OUT, Classed
from tlx.run_folder.provenance import (
    CONTENT,
    of_beginning,
    of_content,
    of_data,
    of_inputs,
    of_numbers,
)
from tlx.types import AnyBatch, Constants, DataInfo, LoadReport, Network, Params, Variables
from tlx.weights.initial import with_part


class Experiment(NamedTuple):
    """Everything a run needs. `variables` are the starting point, `steps` the length of the whole
    run, `head` the run's with what the labels say of it, `setup` what the strategy found before it
    planned. `model` computes in float32, the models of `phases` and those they are compared with in
    the run's precision. `metrics` are those of a whole split, `chosen_by` what selects in place of
    the head."""

    config: RunConfig
    info: DataInfo
    splits: Splits
    model: Model
    strategy: Strategy
    step: Step
    variables: Variables
    report: LoadReport | None
    phases: tuple[Planned, ...]
    terms: tuple[Term, ...]
    source_models: tuple[tuple[str, Model], ...]
    augmentations: tuple[Augmentation | Mixes, ...]
    constants: Constants
    steps: int
    domain: Domain | None = None
    mesh: Mesh | None = None
    head: Part | None = None
    setup: Found | None = None
    metrics: tuple[NamedMetric, ...] = ()
    chosen_by: tuple[str, str] | None = None

    def objective(self, planned: Planned) -> Objective:
        """The objective of one phase."""
        return Objective(
            planned.model,
            planned.phase.forward,
            self.terms,
            self.source_models,
            self.augmentations,
            self.strategy.effective if isinstance(self.strategy, Reparametrises) else None,
            averaging=self.strategy if isinstance(self.strategy, Averages) else None,
            spatial=spatial_targets(self.info),
        )

    def used(self, variables: Variables) -> Variables:
        """The variables that the network runs with, for those that are learnt; of several devices
        each has them whole."""
        variables = meshes.gathered(variables, self.mesh)
        if not isinstance(self.strategy, Reparametrises):
            return variables
        return Variables(
            _effective(self.strategy, repr(self.setup))(variables.params), variables.state
        )

    def shared(self, batch: AnyBatch, axis: int = 0) -> AnyBatch:
        """A batch of the stream on the device, or, along `axis`, on several; of several processes
        each gives its own rows."""
        return meshes.shared(batch, self.mesh, axis)

    @property
    def collate(self) -> Collate:
        """How examples become a batch."""
        return collate_ports(self.model.ports, self.info)

    def weight(self, term: Term) -> float:
        """A divergence's lambda, as the run file has it."""
        return float(str(self.constants.hyper["divergence"][term.name]))  # the shortest decimal

    def update(self, planned: Planned) -> Any:
        """The update rule of one phase."""
        return transform(
            self.config.optimizer,
            start=planned.start,
            steps=planned.phase.steps,
            multipliers=planned.multipliers,
            decays=planned.decays,
        )

    @property
    def final(self) -> Planned:
        """The last phase with the model as it will be used: in float32, as a saved model predicts.
        The numbers that a run reports at its end are those of this one."""
        last = self.phases[-1]
        return last._replace(model=replace(last.model, precision="float32"))

    @property
    def selection(self) -> tuple[str, str]:
        """The metric that decides which step is best, and its direction."""
        if self.chosen_by is not None:
            return self.chosen_by
        return self.model.head.selection if self.model.head is not None else ("loss", "min")

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples train, select and test."""
        return {name: len(part) for name, part in self.splits.parts.items()}

    @property
    def subsets(self) -> dict[str, Classed]:
        """What trains, selects and tests, by name, and of a domain what trains and tests."""
        classes, domain = self.info.classes, self.domain
        left_out = {f"{LEFT_OUT}{name}": part for name, part in self.splits.left_out.items()}
        found = {n: (part, classes) for n, part in (self.splits.parts | left_out).items()}
        if domain is not None:
            found["domain-train"] = domain.train, classes if domain.test else ()
            found |= {"domain-test": (domain.test, classes)} if domain.test else {}
        return found

    @property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Which data, by table of the run file, and which weights, by what digests say of them."""
        parts = {name: (part, ()) for name, part in self.splits.parts.items()}
        found = {"data": of_data(self.info), CONTENT: of_content(parts)}
        found["inputs"] = of_inputs(self.model.ports)
        if self.domain is not None:
            found["domain"] = of_data(self.domain.info)
        if self.setup is not None:
            found["strategy"] = dict(self.setup.options)
        if self.report is not None and self.report.sha256:
            found["weights"] = {"sha256": self.report.sha256}
        for name, numbers in self.constants.sources.items():
            weights = self.config.sources[name].weights if name in self.config.sources else None
            if name != "source" and not (weights and weights.allow):  # what it lacks is random
                found[f"sources.{name}"] = {"sha256": of_numbers(meshes.fetched(numbers))}
        return found

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every training example is seen about once."""
        return _steps_per_epoch(self.splits, self.config)

    @property
    def trainable(self) -> int:
        """How many numbers move in any phase."""
        masks = [planned.trainable for planned in self.phases]
        moved = jax.tree.map(lambda *bits: any(bits), *masks)
        return trees.count(trees.partition(self.variables.params, moved)[0])


def assemble(config: RunConfig, then: Begun | None = None) -> Experiment:
    """Build and check everything that `config` names; `then`: what a run that goes on, or is
    measured again, wrote down of its data. The network ends at the last stage that anybody reads
    or names."""
    start, found = strategy_setup.set_up(opened(config, then))
    return _ending(start)._replace(setup=found)


def _ending(start: Start) -> Experiment:
    """The experiment of a start, of a network that ends where nobody reads on."""
    config = start.config
    if not start.lacking and start.depth == start.least and start.model.head is not None:
        return _placed(_experiment(start, start.terms), start.mesh)
    declared = reading.declared(start.terms)
    if declared is None:
        return _placed(_experiment(start.at(start.whole), start.terms), start.mesh)
    # What a divergence has beforehand is computed once, of the network that is trained.
    probe = _experiment(start, tuple(t for t in start.terms if not works_beforehand(t)))
    batch = batch_sizes.shapes(
        start.step, config.batch_size, start.sample, start.domain is not None
    )
    objectives = [replace(probe.objective(one), sources=start.models) for one in probe.phases]
    read = reading.read(objectives, config.strategy.name, probe.variables, probe.constants, batch)
    kept = {name for one in probe.phases for name in one.phase.reads}
    ends = start.whole if read is None else start.ends(read, declared | kept)
    if ends != start.whole and reading.names_above(start.at(ends), probe.steps):
        ends = start.whole
    left = start.at(ends)
    same = left is start and len(probe.terms) == len(start.terms)
    return _placed(probe if same else _experiment(left, start.terms), start.mesh)


def _experiment(start: Start, terms: tuple[Term, ...]) -> Experiment:
    """What becomes of a start with some of its divergences."""
    config, info, parts, model = start.config, start.info, start.parts, start.model
    strategy, step, sample, named = start.strategy, start.step, start.sample, start.sources
    words, things = start.words, start.things
    variables, domain = start.begun(), start.domain
    batch_sizes.too_few(step, config.batch_size, things, parts, domain)
    refusals.divergences(terms, words, named, model, variables, info, domain)
    label_refusals.refuse_other_units(terms, words, start.head, start.file, named)
    used = sorted({t.source for t in terms if any(w.startswith("source_") for w in words[t.name])})
    numbers = {name: _copy(named[name].variables) for name in used}

    prepared: dict[str, Any] = {}
    for number, term in enumerate(terms):
        key = jax.random.fold_in(start.key, 100 + number)
        compares = any(word.startswith("source_") for word in words[term.name])
        other = Network(named[term.source].model, numbers[term.source]) if compares else None
        if isinstance(term.divergence, Learns):
            own = preparations.init(term, model, other, sample, key)
            variables = with_part(variables, f"divergence/{term.name}", own)
        if isinstance(term.divergence, Prepares):
            found = preparations.prepare(
                term, model, variables, other, start.training_batches(), key
            )
            prepared[term.name] = hosts.agreed(found)

    steps = config.steps or max(1, round((config.epochs or 0) * _steps_per_epoch(parts, config)))
    hyper = hyperparameters(config, start.weighted, steps)
    training = replace(model, precision=config.precision)
    phases = plan(strategy, training, variables.params, steps)
    refusals.modes(model, phases)
    refusals.precision(phases, variables, sample)
    balanced = config.data.sampling == "balanced"
    refusals.solved(phases, terms, start.augmentations, balanced)
    refusals.idle(terms, phases)
    refusals.mixing(config, strategy, terms, start.augmentations, model.ports)
    experiment = Experiment(
        config, info, parts, model, strategy, step, variables, start.report, phases,
        terms, tuple((n, replace(named[n].model, precision=config.precision)) for n in used),
        start.augmentations, Constants(numbers, prepared, {}, hyper), steps, domain,
        head=start.head,
    )  # fmt: skip
    dense_labels.refuse(experiment, sample)
    first = experiment.objective(phases[0])
    recorded = records.every_record(first, variables, experiment.constants, start.training_batches)
    constants = experiment.constants._replace(recorded=hosts.agreed(recorded))
    if len(terms) == len(start.terms):
        shown = batch_sizes.shapes(step, config.batch_size, sample, domain is not None)
        passes = traced_passes.Passes(
            config.strategy.name, variables, shown, constants, config.cache_gb > 0
        )
        minimised = [(planned, experiment.objective(planned)) for planned in phases]
        traced_terms.check(minimised, traced_passes.check(minimised, passes))
    return whole_split_metrics.with_metrics(experiment._replace(constants=constants), sample)


def _placed(experiment: Experiment, mesh: Mesh | None) -> Experiment:
    """The experiment with its numbers on the devices that train it."""
    hosts.same("data and weights", lambda: of_beginning(
        experiment.info.fingerprint, experiment.splits,
        (experiment.variables, experiment.constants.sources),
    ))  # fmt: skip
    return experiment._replace(
        variables=meshes.placed(experiment.variables, mesh),
        constants=meshes.placed(experiment.constants, mesh),
        mesh=mesh,
    )


@lru_cache(maxsize=4)
def _effective(strategy: Reparametrises, found: str) -> Callable[[Params], Params]:
    """Compiled once for every run with this strategy that has `found` the same in its `setup`."""
    return jax.jit(strategy.effective)


def _steps_per_epoch(parts: Splits, config: RunConfig) -> int:
    return max(1, math.ceil(len(parts.train) / config.batch_size))


def _copy(variables: Variables) -> Variables:
    """Arrays of its own: the training state's are donated to every step."""
    return jax.tree.map(jnp.copy, variables)
