"""From a run file's configuration to an experiment that is ready to run.

Builds every part, opens the data, loads the weights, checks what every divergence asks for, and
refuses whatever cannot work before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx import registry, sources, splits, trees
from tlx.config import RunConfig
from tlx.errors import ConfigError, WeightsError, did_you_mean, listed
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.optimizer import transform
from tlx.plan import Planned, plan
from tlx.preprocessing import as_trained, canvas
from tlx.protocols import Augmentation, Learns, Prepares, Step, Strategy
from tlx.splits import Splits
from tlx.stream import evaluation
from tlx.types import Batch, Constants, DataInfo, LoadReport, Variables


class Experiment(NamedTuple):
    """Everything a run needs. `variables` are the starting point, `canvas` (H,W) the size that
    pictures have in a batch, `steps` the length of the whole run."""

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
    augmentations: tuple[Augmentation, ...]
    constants: Constants
    steps: int

    def objective(self, planned: Planned) -> Objective:
        """The objective of one phase."""
        return Objective(
            planned.model,
            planned.phase.forward,
            self.terms,
            self.source_models,
            self.augmentations,
        )

    def update(self, planned: Planned) -> Any:
        """The update rule of one phase."""
        return transform(
            self.config.optimizer,
            start=planned.start,
            steps=planned.phase.steps,
            multipliers=planned.multipliers,
        )

    @property
    def selection(self) -> tuple[str, str]:
        """The metric that decides which step is best, and its direction."""
        return self.model.head.selection if self.model.head is not None else ("loss", "min")

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples train, select and test."""
        parts = self.splits
        return {"train": len(parts.train), "val": len(parts.val), "test": len(parts.test)}

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


def assemble(config: RunConfig) -> Experiment:
    """Build and check everything that `config` names."""
    divergences = [
        registry.build("divergences", part.name, part.options) for part in config.divergence
    ]
    backbone = registry.build("backbones", config.backbone.name, config.backbone.options)
    strategy = registry.build("strategies", config.strategy.name, config.strategy.options)
    step = registry.build("steps", config.step.name, config.step.options)
    augmentations = tuple(
        registry.build("augmentations", part.name, part.options) for part in config.augmentation
    )
    weights = sources.open_weights(config.weights) if config.weights else None
    data = registry.build("datasets", config.data.name, config.data.options)
    info = data.info
    parts = splits.cut(
        data,
        shots=config.data.shots,
        val=config.data.val,
        test=config.data.test,
        seed=config.data.split_seed,
    )
    head = (
        registry.build(
            "heads", config.head.name, config.head.options, given={"classes": len(info.classes)}
        )
        if config.head
        else None
    )
    file = weights.input if weights else None
    stated = config.weights.input if config.weights else None
    inputs = as_trained(file, backbone.inputs, stated)
    model = Model(backbone, head, inputs)
    _check_features(model)
    size = canvas(info, inputs)
    sample = as_arrays(next(iter(evaluation(
        parts.train, batch_size=min(2, len(parts.train)), canvas=size, inputs=inputs
    ))))  # fmt: skip

    root = jax.random.key(config.seed)
    variables = jax.jit(model.init)(jax.random.fold_in(root, 0), sample)
    report, named = None, sources.others(config.sources)
    if config.weights and weights:
        loaded = sources.load(config.weights, weights, model, variables)
        variables, report = loaded.variables, loaded.report
        named["source"] = loaded.source
    own = strategy.init(jax.random.fold_in(root, 1), model, sample)
    variables = _with(variables, "strategy", own)

    terms = tuple(
        Term(part.label or part.name, divergence, part.source)
        for part, divergence in zip(config.divergence, divergences, strict=True)
    )
    _check_terms(terms, named, variables, info)
    used = {term.source for term in terms if any(w.startswith("source_") for w in term.words)}
    numbers = {name: _copy(named[name].variables) for name in used}
    prepared: dict[str, Any] = {}
    for number, term in enumerate(terms):
        key = jax.random.fold_in(root, 100 + number)
        if isinstance(term.divergence, Learns):
            own = term.divergence.init(model=model, sources=numbers, batch=sample, rng=key)
            variables = _with(variables, f"divergence/{term.name}", own)
        if isinstance(term.divergence, Prepares):
            prepared[term.name] = term.divergence.prepare(
                model=model, variables=variables, sources=numbers,
                batches=map(as_arrays, evaluation(
                    parts.train, batch_size=config.batch_size, canvas=size, inputs=inputs
                )),
                rng=key,
            )  # fmt: skip

    steps = config.steps or max(1, round((config.epochs or 0) * _steps_per_epoch(parts, config)))
    hyper = {
        "learning_rate": jnp.float32(config.optimizer.learning_rate),
        "weight_decay": jnp.float32(config.optimizer.weight_decay),
        "divergence": {
            term.name: jnp.float32(part.weight)
            for term, part in zip(terms, config.divergence, strict=True)
        },
        "steps": jnp.float32(steps),
    }
    phases = plan(strategy, model, variables.params, steps)
    _check_modes(model, phases)
    return Experiment(
        config, info, parts, size, model, strategy, step, variables, report, phases, terms,
        tuple((name, named[name].model) for name in sorted(used)),
        augmentations, Constants(numbers, prepared, {}, hyper), steps,
    )  # fmt: skip


def as_arrays(batch: Mapping[str, Any]) -> Batch:
    """A batch of the stream on the device."""
    return {name: jnp.asarray(value) for name, value in batch.items()}


def _steps_per_epoch(parts: Splits, config: RunConfig) -> int:
    return max(1, math.ceil(len(parts.train) / config.batch_size))


def _check_features(model: Model) -> None:
    if model.head is None:
        return
    known = [spec.name for spec in model.backbone.features]
    for name in model.head.needs:
        if name not in known:
            raise ConfigError(
                f"The head reads the feature {name!r}, which the backbone does not have."
                f"{did_you_mean(name, known)} Features: {listed(known)}."
            )


def _check_modes(model: Model, phases: tuple[Planned, ...]) -> None:
    for planned in phases:
        if planned.model.frozen >= model.depth:
            continue
        mode = "tune" if planned.phase.norm == "frozen" else "train"
        if mode not in model.backbone.modes:
            raise ConfigError(
                f"Phase {planned.phase.name!r} with norm = {planned.phase.norm!r} runs the "
                f"backbone in mode {mode!r}, which it cannot tell apart. It has: "
                f"{listed(sorted(model.backbone.modes))}."
            )


def _check_terms(
    terms: tuple[Term, ...],
    named: Mapping[str, sources.Source],
    variables: Variables,
    info: DataInfo,
) -> None:
    for term in terms:
        for word in sorted(term.words):
            if word.startswith("domain_"):
                raise ConfigError(
                    f"Divergence {term.name!r} asks for {word!r}, and this run has no second "
                    f"stream of pictures."
                )
            if not word.startswith("source_"):
                continue
            if term.source not in named:
                raise ConfigError(
                    f"Divergence {term.name!r} compares with the source model {term.source!r}, "
                    f"which this run does not have.{did_you_mean(term.source, named)} Sources: "
                    f"{listed(named)}. Give [weights], or a [sources.{term.source}] table."
                )
            source = named[term.source]
            if word == "source_params":
                _same_tree(term.name, variables, source.variables)
            if word in ("source_outputs", "source_head_outputs") and source.model.head is None:
                raise ConfigError(
                    f"Divergence {term.name!r} asks for {word!r}, but the weights of source "
                    f"{term.source!r} hold no head that fits. Use a divergence of features or "
                    f"parameters, or weights with a head of {len(info.classes)} classes."
                )
            if word == "source_outputs" and source.classes and source.classes != info.classes:
                raise ConfigError(
                    f"Divergence {term.name!r} compares outputs over different classes: the "
                    f"source knows {listed(source.classes[:4])}, ..., the data "
                    f"{listed(info.classes[:4])}, .... Use a divergence of features or parameters."
                )


def _same_tree(name: str, variables: Variables, source: Variables) -> None:
    here = {path: np.shape(leaf) for path, leaf in trees.flat(variables.params["backbone"]).items()}
    there = {path: np.shape(leaf) for path, leaf in trees.flat(source.params["backbone"]).items()}
    if here != there:
        odd = sorted(set(here.items()) ^ set(there.items()))[0][0]
        raise WeightsError(
            f"Divergence {name!r} compares parameters of two different networks; {odd!r} is not "
            f"the same in both. Use a source of the same backbone, or a divergence of features."
        )


def _with(variables: Variables, key: str, own: Variables) -> Variables:
    params = (
        {**variables.params, key: own.params} if jax.tree.leaves(own.params) else variables.params
    )
    state = {**variables.state, key: own.state} if jax.tree.leaves(own.state) else variables.state
    return Variables(params, state)


def _copy(variables: Variables) -> Variables:
    """Arrays of its own: the training state's are donated to every step."""
    return jax.tree.map(jnp.copy, variables)
