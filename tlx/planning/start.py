"""What a run starts from: its parts built, its data opened, its weights loaded, nothing planned.

A file of weights may still lack the last stages here; where the network ends is known once it has
been seen who reads what, and only what is left then has to be in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
from jax import Array
from jax.sharding import Mesh

from tlx import registry
from tlx.backbones.shortened import root, stages_of
from tlx.config import RunConfig
from tlx.contracts.input import Ports
from tlx.data import targets
from tlx.data.collate import Collate, collate_ports
from tlx.data.domain import Domain, second
from tlx.data.inputs import (
    as_inputs,
    bind_inputs,
    fit_backbone,
    fit_inputs,
    shared_inputs,
    trained_inputs,
)
from tlx.data.splits import Splits
from tlx.devices import mesh as meshes
from tlx.errors import ConfigError
from tlx.extension import extension_of
from tlx.model import Model
from tlx.objective import Term
from tlx.planning import batch_sizes, label_refusals, preparations, records, refusals, splitting
from tlx.protocols import (
    Augmentation,
    Brings,
    Brought,
    Learns,
    Mixes,
    Prepares,
    Records,
    Step,
    Strategy,
    WeightSource,
)
from tlx.run_file.run_config import Part
from tlx.run_folder.as_before import Begun
from tlx.stream import closing_batches, evaluation
from tlx.types import Batch, DataInfo, LoadReport, Variables
from tlx.weights import sources
from tlx.weights.ending import ending, lacking, needed, stages_with
from tlx.weights.initial import Initial
from tlx.weights.sources import Source


class Ends(NamedTuple):
    """How many stages are left of the network, and of sources that are a network of their own."""

    own: int
    sources: Mapping[str, int]


class Start(NamedTuple):
    """Parts, data and numbers of a run. `terms` are its divergences, `words` what each asks for,
    `weighted` their weights, `things` what there is to name in an error; `key` is what it draws
    from, `sample` a batch of two."""

    config: RunConfig
    mesh: Mesh | None
    strategy: Strategy
    step: Step
    terms: tuple[Term, ...]
    words: Mapping[str, frozenset[str]]
    weighted: Mapping[str, float]
    things: Mapping[str, object]
    augmentations: tuple[Augmentation | Mixes, ...]
    file: WeightSource | None
    info: DataInfo
    parts: Splits
    domain: Domain | None
    head: Part | None
    head_of: sources.HeadOf
    sample: Batch
    key: Array
    model: Model
    variables: Variables
    report: LoadReport | None
    sources: Mapping[str, Source]
    initial: Initial
    lacks: bool

    def begun(self) -> Variables:
        """The variables with the strategy's own."""
        key, name = jax.random.fold_in(self.key, 1), self.config.strategy.name
        return preparations.begun(name, self.strategy, self.model, self.variables, self.sample, key)

    @property
    def collate(self) -> Collate:
        """How examples become a batch."""
        return collate_ports(self.model.ports, self.info)

    def training_batches(self) -> Iterator[Batch]:
        """The training split's batches on the device, every example once and un-augmented."""
        made = evaluation(self.parts.train, self.collate, batch_size=self.config.batch_size)
        with closing_batches(made) as batches:
            yield from (meshes.shared(batch, None) for batch in batches)

    @property
    def depth(self) -> int:
        """How many stages the network has."""
        return len(stages_of(root(self.model.backbone)))

    @property
    def least(self) -> int:
        """How many of them the head needs."""
        return needed(self.model)

    @property
    def lacking(self) -> bool:
        """Whether a file that was read lacks something of a network's end."""
        return self.lacks or any(source.lacks for source in self.sources.values())

    @property
    def models(self) -> tuple[tuple[str, Model], ...]:
        """The source models; what is traced of one says whose it is, if it is another network."""
        return tuple(
            (name, one.model if self._alike(name) else replace(one.model, whose=name))
            for name, one in self.sources.items()
        )

    @property
    def whole(self) -> Ends:
        """Nothing is left out."""
        every = {name: len(stages_of(one.model.backbone)) for name, one in self.sources.items()}
        return Ends(self.depth, every)

    def ends(self, read: Mapping[str, frozenset[str]], declared: frozenset[str]) -> Ends:
        """Where the networks end: features that are `read`, by whose they are, and those that
        divergences have `declared`, which have other networks whole."""
        heads = [one.model.head for name, one in self.sources.items() if self._alike(name)]
        theirs = {name for head in heads if head and self._beforehand for name in head.needs}
        names = read.get("", frozenset()) | declared | theirs
        names |= set(self.model.head.needs if self.model.head else ())
        own = stages_with(self.model, names) if self.depth else 0
        own = self.depth if self.least == self.depth else own
        others = dict(self.whole.sources)
        for name, one in self.sources.items():
            if one.lacks and name in read and not self._beforehand:
                others[name] = stages_with(one.model, read[name])
        return Ends(own, others)

    @property
    def _beforehand(self) -> bool:
        return any(map(works_beforehand, self.terms))

    def _alike(self, name: str) -> bool:
        """Whether a source ends where the network does: it is where that starts from, or compared
        with it leaf by leaf."""
        source = self.sources[name].model.backbone
        by_leaf = any(
            t.source == name and "source_params" in self.words[t.name] for t in self.terms
        )
        return root(source) == root(self.model.backbone) and (name == "source" or by_leaf)

    def at(self, ends: Ends) -> Start:
        """The same, of networks that end there. Raises WeightsError where a file lacks what is
        left."""
        if ends == self.whole and not self.lacking:
            return self
        end = ending(self.model, ends.own)
        stages = {
            name: ends.own if self._alike(name) else ends.sources[name] for name in self.sources
        }
        given = self.config, self.strategy, self.head_of, stages, self.model.ports
        named = _others(*given) if self.lacking else {}
        named = {**self.sources, **named}
        variables, report = self.variables, self.report
        if self.lacks:
            loaded = _loaded(self, end.unread)
            variables, report = loaded.variables, loaded.report
            named["source"] = loaded.source
        return self._replace(
            model=end.model(self.model),
            variables=end.variables(variables),
            report=end.report(report),
            sources={n: end.source(s) if self._alike(n) else s for n, s in named.items()},
            lacks=False,
        )


def works_beforehand(term: Term) -> bool:
    """Whether a divergence has numbers of its own before the first step."""
    return isinstance(term.divergence, (Learns, Prepares, Records))


def opened(config: RunConfig, then: Begun | None) -> Start:
    """Everything that `config` names, built, opened and loaded; `then`: what a run that goes on,
    or is measured again, wrote down of its data."""
    mesh = meshes.mesh_of(config.mesh, config.batch_size)
    backbone = registry.build("backbones", config.backbone.name, config.backbone.options)
    strategy: Strategy = registry.build("strategies", config.strategy.name, config.strategy.options)
    preset = brought(strategy)
    if clash := sorted(preset.sources.keys() & config.sources.keys()):
        raise ConfigError(
            f"The strategy brings a source {clash[0]!r} along, and [sources.{clash[0]}] names "
            f"another. Remove the table, or give it another name."
        )
    parts_of_d = (*config.divergence, *preset.divergences)
    terms = tuple(
        Term(p.key, registry.build("divergences", p.name, p.options), p.source, p.schedule)
        for p in parts_of_d
    )
    weighted = {part.key: part.weight for part in parts_of_d}
    words = {term.name: records.needs(term) for term in terms}
    step = registry.build("steps", config.step.name, config.step.options)
    things: dict[str, object] = {f"the divergence {t.name!r}": t.divergence for t in terms}
    things[f"the strategy {config.strategy.name!r}"] = strategy
    refusals.skipping(step, config.optimizer.on_nan)
    batch_sizes.in_parts(step, config.batch_size, mesh.size if mesh else 1, things)
    augmentations = tuple(
        registry.build("augmentations", part.name, part.options) for part in config.augmentation
    )
    file = sources.open_weights(config.weights) if config.weights else None
    data = targets.open_source(config.data, config.head)
    info, parts = data.info, splitting.cut(data, config.data, then)
    kept, labels = targets.kept_options(config.weights, file), parts.train.labels
    head = config.head and label_refusals.fitted(config.head, info, labels, kept)
    if then is None:  # of a run that goes on, what has changed is named instead
        refusals.classes(parts, info, config.head)
    stated = config.weights.input if config.weights else None
    ports = bind_inputs(trained_inputs(backbone, file, stated), info, config.model.inputs)
    ports = fit_inputs(ports, info, parts.train)
    over = targets.head_over(head, len(info.classes)) if head else None
    body = fit_backbone(backbone, ports)
    model = Model(body, over, as_inputs(ports), extension=extension_of(strategy))
    refusals.features(model)
    sample = meshes.shared(next(iter(evaluation(
        parts.train, collate_ports(ports, info), batch_size=min(2, len(parts.train))
    ))), None)  # fmt: skip
    root_key = jax.random.key(config.seed)
    initial = Initial(model, jax.random.fold_in(root_key, 0), sample)
    shown = batch_sizes.shapes(step, config.batch_size, sample, False)
    label_refusals.refuse_shapes(strategy, model, initial.shapes, shown)
    head_of = partial(targets.head_over, config.head)
    named = _others(config, strategy, head_of, None, ports)
    start = Start(
        config, mesh, strategy, step, terms, words, weighted, things, augmentations, file, info,
        parts, None, head, head_of, sample, root_key, model, initial.shapes, None, named,
        initial, False,
    )  # fmt: skip
    return _begun(start)


def _begun(start: Start) -> Start:
    """With numbers from the file of weights, which may lack what the head does not need, and with
    the second stream."""
    config, variables, report, lacks = start.config, None, None, False
    if config.weights:
        end = ending(start.model, start.least)
        loaded = _loaded(start, end.unread)
        variables, report, lacks = loaded.variables, loaded.report, lacking(end, loaded.report)
        start = start._replace(sources={**start.sources, "source": loaded.source})
    else:
        variables = start.initial.filled(start.initial.shapes)
    domain = second(config.domain, start.info, config.head) if config.domain else None
    return start._replace(variables=variables, report=report, lacks=lacks, domain=domain)


def _loaded(start: Start, unread: frozenset[str]) -> sources.Loaded:
    """The file of weights in the model; its own head where a divergence asks for that."""
    config, heads = start.config, {"source_outputs", "source_head_outputs"}
    assert config.weights is not None
    assert start.file is not None
    of_source = [term for term in start.terms if term.source == "source"]
    own = start.head_of if any(start.words[t.name] & heads for t in of_source) else None
    return sources.load(config.weights, start.file, start.initial, own, unread)


def _others(
    config: RunConfig,
    strategy: Strategy,
    head_of: sources.HeadOf,
    stages: Mapping[str, int] | None,
    ports: Ports,
) -> dict[str, Source]:
    """The source models, which are given the entries of the batch that the network is."""
    found = sources.others({**config.sources, **brought(strategy).sources}, head_of, stages)

    def shared(source: Source) -> Source:
        inputs = shared_inputs(source.model.inputs, ports)
        return source._replace(model=replace(source.model, inputs=inputs))

    return {name: shared(source) for name, source in found.items()}


def brought(strategy: Strategy) -> Brought:
    """The divergences and sources that a strategy stands for."""
    return strategy.brings if isinstance(strategy, Brings) else Brought()
