"""Where a run starts from: weights into the target model, and the source models beside it.

Weights go into the leaves of a model, with a report of every leaf; what no file gives is drawn. A
match in part is refused unless the run file allows it. The source is the model as it was loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from tlx import registry, trees
from tlx.config import SourceConfig, WeightsConfig
from tlx.contracts.calls import calling
from tlx.contracts.dialect import Dialect
from tlx.contracts.file_facts import classes_of, input_of
from tlx.contracts.input import ports_of
from tlx.data.inputs import as_inputs, fit_backbone, trained_inputs
from tlx.model import Model
from tlx.protocols import Backbone, ForeignNames, Head, Noted, WeightSource
from tlx.run_file import folder_code
from tlx.types import FreshLeaf, LoadReport, Tensors, Variables
from tlx.weights.ending import ending, lacking, lengthened, needed
from tlx.weights.initial import Initial
from tlx.weights.matching import match
from tlx.weights.places import fills_head, find_place
from tlx.weights.refusals import refuse_others, tensors_of

HeadOf: TypeAlias = Callable[[int], Head]
"""A head for so many classes."""


class Source(NamedTuple):
    """A source model with its numbers; `classes` of its own head, None where it has no head or
    the file does not name them. `lacks`: whether its file has nothing of its last stages."""

    model: Model
    variables: Variables
    classes: tuple[str, ...] | None
    lacks: bool = False


class Loaded(NamedTuple):
    """The target's starting point, what was loaded, and the source it came from."""

    variables: Variables
    report: LoadReport
    source: Source


def open_weights(config: WeightsConfig, *, trust_code: bool = False) -> WeightSource:
    """The weight source that `[weights]` names. With `trust_code` it may run what a folder names,
    if it is one that would."""
    given = {folder_code.TRUSTING: trust_code}
    source: WeightSource = registry.build("weights", config.name, config.options, given)
    with calling(f"The source of the weights {config.name!r}", source):
        _ = input_of(source), classes_of(source)  # read where they are needed; that works
    return source


def load(
    config: WeightsConfig,
    source: WeightSource,
    initial: Initial,
    own_head: HeadOf | None = None,
    unread: frozenset[str] = frozenset(),
) -> Loaded:
    """The leaves of the file, and initial numbers for the rest.

    The head is new unless `[weights] head = "keep"`. With `own_head`, the source keeps its head
    even if it is over other classes; leaves `unread` by anybody may be lacking. WeightsError where
    the file is of another network, see `refuse_others`."""
    model, like = initial.model, initial.shapes
    dialects, tensors = foreign_names(model.backbone), tensors_of(config.name, source)
    found, report = match(tensors, like, dialects, config.prefix)
    if isinstance(source, Noted):
        report = report._replace(notes=(*source.notes, *report.notes))
    refuse_others(config, source, report, dialects, unread)
    model = model.bare  # what a strategy adds belongs to the target
    known = {spec.name for spec in model.backbone.features}
    fits = model.head is not None and known.issuperset(model.head.needs)
    with_head = fits and not any(trees.part(leaf.path) == "head" for leaf in report.initialised)
    new = config.head == "new" and model.head is not None
    target = initial.filled(_with_head(found, like) if new else found)
    kept = Source(model, _with_head(target, found), classes_of(source)) if with_head else None
    if kept is None and own_head is not None:
        kept = _own_head(source, tensors, initial, own_head, config.prefix)
    if kept is None:
        kept = Source(Model(model.backbone, None, model.inputs), _without_head(target), None)
    return Loaded(target, _head_is_new(report) if new else report, kept)


def others(
    configs: Mapping[str, SourceConfig], own_head: HeadOf, stages: Mapping[str, int] | None = None
) -> dict[str, Source]:
    """The source models that `[sources.NAME]` tables name, from their run folders or files. A file
    may lack what lies above the first stage, which is then of any numbers, or above so many
    `stages` by name; then the source ends there."""
    return {
        name: _other(config, own_head, None if stages is None else stages[name])
        for name, config in configs.items()
    }


def _other(config: SourceConfig, own_head: HeadOf, stages: int | None) -> Source:
    from tlx.weights.saved import load as load_run

    if config.backbone is None or config.weights is None:
        run = load_run(config.run or "", trust_code=config.trust_code)
        there = Source(run.model, run.variables, run.classes)
        return lengthened(there) if stages is None else there
    backbone = registry.build("backbones", config.backbone.name, config.backbone.options)
    source = open_weights(config.weights, trust_code=config.trust_code)
    ports = ports_of(trained_inputs(backbone, source, config.weights.input))
    model = Model(fit_backbone(backbone, ports), None, as_inputs(ports))
    end = ending(model, needed(model) if stages is None else stages)
    loaded = load(config.weights, source, begun(model), own_head, end.unread)
    if not lacking(end, loaded.report):
        return loaded.source
    return loaded.source._replace(lacks=True) if stages is None else end.source(loaded.source)


def headed(config: WeightsConfig, model: Model, own_head: HeadOf) -> Source | None:
    """The source with the head of its file; None where the file has none that fits."""
    source = open_weights(config)
    tensors = tensors_of(config.name, source)
    return _own_head(source, tensors, begun(model), own_head, config.prefix)


def begun(model: Model) -> Initial:
    """What a source begins with, on an example of any content."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.example())
    return Initial(model, jax.random.key(0), zeros)


def _own_head(
    source: WeightSource, tensors: Tensors, initial: Initial, own_head: HeadOf, prefix: str
) -> Source | None:
    """The source with the head of its file, over its own classes; None where the file has none."""
    model = initial.model
    dialects = foreign_names(model.backbone)
    place = find_place(tensors.values, trees.flat(initial.shapes), dialects, prefix, tensors.origin)
    sizes = [len(v) for k, v in tensors.values.items() if v.ndim == 1 and fills_head(k, place)]
    classes = classes_of(source)
    count = len(classes) if classes else (sizes[0] if sizes else 0)
    known = {spec.name for spec in model.backbone.features}
    if not count:
        return None
    headed = Model(model.backbone, own_head(count), model.inputs)
    if headed.head is None or not known.issuperset(headed.head.needs):
        return None
    whole = replace(initial, model=headed)
    found, report = match(tensors, whole.shapes, dialects, place.prefix)
    if any(trees.part(leaf.path) == "head" for leaf in report.initialised):
        return None
    return Source(headed, whole.filled(found), classes)


def foreign_names(backbone: Backbone) -> tuple[Dialect, ...]:
    """The dialects that a backbone knows; none for one that knows its own leaf paths alone."""
    return backbone.dialects if isinstance(backbone, ForeignNames) else ()


def _with_head(body: Variables, other: Variables) -> Variables:
    """The body of one and the head of another."""
    return Variables(
        {**body.params, "head": other.params["head"]}, {**body.state, "head": other.state["head"]}
    )


def _without_head(variables: Variables) -> Variables:
    return Variables(
        {"backbone": variables.params["backbone"]}, {"backbone": variables.state["backbone"]}
    )


def _head_is_new(report: LoadReport) -> LoadReport:
    why = "the head is new for this target"
    body = tuple(leaf for leaf in report.loaded if trees.part(leaf.path) != "head")
    heads = [leaf for leaf in report.loaded if trees.part(leaf.path) == "head"]
    fresh = [
        leaf._replace(why=why) if trees.part(leaf.path) == "head" else leaf
        for leaf in report.initialised
    ]
    fresh += [FreshLeaf(leaf.path, leaf.shape, why) for leaf in heads]
    other = tuple(tensor for tensor in report.skipped if tensor.part != "head")
    return report._replace(loaded=body, initialised=tuple(fresh), skipped=other)
