"""From a run file's configuration to an experiment that is ready to run.

Builds every part, opens the data, loads the weights, checks what every divergence asks for, and
refuses whatever cannot work before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tlx import registry, trees
from tlx.backbones.shortened import stages_of
from tlx.config import RunConfig
from tlx.data import targets
from tlx.data.domain import Domain, second
from tlx.data.preprocessing import as_trained, canvas
from tlx.data.splits import Splits
from tlx.devices import hosts
from tlx.devices import mesh as meshes
from tlx.errors import ConfigError
from tlx.model import Model, input_shape
from tlx.objective import Objective, Term
from tlx.planning import (
    batch_sizes,
    dense_labels,
    label_refusals,
    preparations,
    reading,
    records,
    refusals,
    splitting,
    traced_passes,
    traced_terms,
)
from tlx.planning.optimizer import hyperparameters, transform
from tlx.planning.plan import Planned, plan
from tlx.protocols import (
    Augmentation,
    Averages,
    Brings,
    Brought,
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
from tlx.run_folder.provenance import CONTENT, of_beginning, of_content, of_data, of_numbers
from tlx.stream import evaluation
from tlx.types import Batch, Constants, DataInfo, LoadReport, Network, Params, Variables
from tlx.weights import sources
from tlx.weights.ending import ending, lacking, needed
from tlx.weights.initial import Initial, with_part


class Experiment(NamedTuple):
    """Everything a run needs. `variables` are the starting point, `canvas` (H,W) the size that
    pictures have in a batch, `steps` the length of the whole run, `head` the run's with what
    the labels say of it. `model` computes in float32, the models of `phases` and those they are
    compared with in the run's precision."""

    config: RunConfig
    info: DataInfo
    splits: Splits
    canvas: tuple[int, int]
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
        )

    def used(self, variables: Variables) -> Variables:
        """The variables that the network runs with, for those that are learnt; of several devices
        each has them whole."""
        variables = meshes.gathered(variables, self.mesh)
        if not isinstance(self.strategy, Reparametrises):
            return variables
        return Variables(_effective(self.strategy)(variables.params), variables.state)

    def shared(self, batch: Mapping[str, Any], axis: int = 0) -> Batch:
        """A batch of the stream on the device, or, along `axis`, on several; of several processes
        each gives its own rows."""
        return meshes.shared(batch, self.mesh, axis)

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
        if self.domain is not None:
            found["domain"] = of_data(self.domain.info)
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
    whole, sample, lacks = _assembled(config, then, None)
    batch = batch_sizes.shapes(whole.step, config.batch_size, sample, whole.domain is not None)
    ends = reading.read(
        whole.model, map(whole.objective, whole.phases), whole.variables, whole.constants, batch
    )  # fmt: skip
    every = len(stages_of(whole.model.backbone))
    if ends == every and not lacks:
        return whole
    try:
        return _assembled(config, then, ends)[0]
    except ConfigError:  # somebody names a stage, or a feature, that lies above
        return _assembled(config, then, every)[0]


def _assembled(
    config: RunConfig, then: Begun | None, ends: int | None
) -> tuple[Experiment, Batch, bool]:
    """With the first `ends` stages of the network; with all of them where that is None, of which a
    file of weights may then lack those that the head does not need. Also a batch of two, and
    whether it lacks them."""
    mesh = meshes.mesh_of(config.mesh, config.batch_size)
    backbone = registry.build("backbones", config.backbone.name, config.backbone.options)
    strategy: Strategy = registry.build("strategies", config.strategy.name, config.strategy.options)
    brought = strategy.brings if isinstance(strategy, Brings) else Brought()
    if clash := sorted(brought.sources.keys() & config.sources.keys()):
        raise ConfigError(
            f"The strategy brings a source {clash[0]!r} along, and [sources.{clash[0]}] names "
            f"another. Remove the table, or give it another name."
        )
    asked = (*config.divergence, *brought.divergences)
    divergences = [registry.build("divergences", part.name, part.options) for part in asked]
    terms = tuple(
        Term(part.key, divergence, part.source, part.schedule)
        for part, divergence in zip(asked, divergences, strict=True)
    )
    words = {term.name: records.needs(term) for term in terms}
    step = registry.build("steps", config.step.name, config.step.options)
    things: dict[str, object] = {f"the divergence {t.name!r}": t.divergence for t in terms}
    things[f"the strategy {config.strategy.name!r}"] = strategy
    refusals.skipping(step, config.optimizer.on_nan)
    batch_sizes.in_parts(step, config.batch_size, mesh.size if mesh else 1, things)
    augmentations = tuple(
        registry.build("augmentations", part.name, part.options) for part in config.augmentation
    )
    weights = sources.open_weights(config.weights) if config.weights else None
    data = targets.open_source(config.data, config.head)
    info = data.info
    parts = splitting.cut(data, config.data, then)
    kept, labels = targets.kept_options(config.weights, weights), parts.train.labels
    own_head = config.head and label_refusals.fitted(config.head, info, labels, kept)
    refusals.classes(parts, info, config.head)
    head_of = partial(targets.head_over, config.head)
    head = targets.head_over(own_head, len(info.classes)) if own_head else None
    file = weights.input if weights else None
    stated = config.weights.input if config.weights else None
    inputs = as_trained(file, backbone.inputs, stated)
    model = Model(backbone, head, inputs)
    refusals.features(model)
    size = canvas(info, inputs)
    sample = meshes.shared(next(iter(evaluation(
        parts.train, batch_size=min(2, len(parts.train)), canvas=size, inputs=inputs
    ))), None)  # fmt: skip

    root = jax.random.key(config.seed)
    initial = Initial(model, jax.random.fold_in(root, 0), sample)
    shape = input_shape(inputs, sample)
    end = ending(model, needed(model, shape) if ends is None else ends, shape)
    label_refusals.refuse_shapes(strategy, model, initial.shapes, sample)
    report, named = None, sources.others({**config.sources, **brought.sources}, head_of)
    if config.weights and weights:
        heads = {"source_outputs", "source_head_outputs"}
        asks = any(words[term.name] & heads for term in terms if term.source == "source")
        own = head_of if asks else None
        loaded = sources.load(config.weights, weights, initial, own, end.unread)
        variables, report = loaded.variables, loaded.report
        named["source"] = loaded.source
    else:
        variables = initial.filled(initial.shapes)
    lacks = lacking(end, report)
    if ends is not None:
        model, variables, report = end.model(model), end.variables(variables), end.report(report)
        named = {name: end.source(source) for name, source in named.items()}
    key = jax.random.fold_in(root, 1)
    variables = preparations.begun(config.strategy.name, strategy, model, variables, sample, key)

    domain = second(config.domain, info, config.head) if config.domain else None
    batch_sizes.too_few(step, config.batch_size, things, parts, domain)
    refusals.divergences(terms, words, named, model, variables, info, domain)
    label_refusals.refuse_other_units(terms, words, own_head, weights, named)
    used = sorted({t.source for t in terms if any(w.startswith("source_") for w in words[t.name])})
    numbers = {name: _copy(named[name].variables) for name in used}

    def every() -> Any:
        batches = evaluation(parts.train, batch_size=config.batch_size, canvas=size, inputs=inputs)
        return (meshes.shared(batch, None) for batch in batches)

    prepared: dict[str, Any] = {}
    for number, term in enumerate(terms):
        key = jax.random.fold_in(root, 100 + number)
        compares = any(word.startswith("source_") for word in words[term.name])
        other = Network(named[term.source].model, numbers[term.source]) if compares else None
        if isinstance(term.divergence, Learns):
            own = preparations.init(term, model, other, sample, key)
            variables = with_part(variables, f"divergence/{term.name}", own)
        if isinstance(term.divergence, Prepares):
            found = preparations.prepare(term, model, variables, other, every(), key)
            prepared[term.name] = hosts.agreed(found)

    steps = config.steps or max(1, round((config.epochs or 0) * _steps_per_epoch(parts, config)))
    weighted = {term.name: part.weight for term, part in zip(terms, asked, strict=True)}
    hyper = hyperparameters(config, weighted, steps)
    training = replace(model, precision=config.precision)
    phases = plan(strategy, training, variables.params, steps)
    refusals.modes(model, phases)
    refusals.precision(phases, variables, sample)
    balanced = config.data.sampling == "balanced"
    refusals.solved(phases, terms, augmentations, balanced)
    refusals.idle(terms, phases)
    refusals.mixing(config, strategy, terms, augmentations)
    experiment = Experiment(
        config, info, parts, size, model, strategy, step, variables, report, phases, terms,
        tuple((name, replace(named[name].model, precision=config.precision)) for name in used),
        augmentations, Constants(numbers, prepared, {}, hyper), steps, domain, head=own_head,
    )  # fmt: skip
    dense_labels.refuse(experiment, sample)
    first = experiment.objective(phases[0])
    recorded = records.every_record(first, variables, experiment.constants, every)
    constants = experiment.constants._replace(recorded=hosts.agreed(recorded))
    shown = batch_sizes.shapes(step, config.batch_size, sample, domain is not None)
    passes = traced_passes.Passes(
        config.strategy.name, variables, shown, constants, config.cache_gb > 0
    )
    minimised = [(planned, experiment.objective(planned)) for planned in phases]
    traced_passes.check(minimised, passes)
    traced_terms.check(minimised, passes)
    hosts.same("data and weights", lambda: of_beginning(
        info.fingerprint, parts, (experiment.variables, experiment.constants.sources)
    ))  # fmt: skip
    placed = experiment._replace(
        variables=meshes.placed(variables, mesh),
        constants=meshes.placed(constants, mesh),
        mesh=mesh,
    )
    return placed, sample, lacks


@lru_cache(maxsize=4)
def _effective(strategy: Reparametrises) -> Callable[[Params], Params]:
    return jax.jit(strategy.effective)


def _steps_per_epoch(parts: Splits, config: RunConfig) -> int:
    return max(1, math.ceil(len(parts.train) / config.batch_size))


def _copy(variables: Variables) -> Variables:
    """Arrays of its own: the training state's are donated to every step."""
    return jax.tree.map(jnp.copy, variables)
