"""Where a run starts from: weights into the target model, and the source models beside it.

Weights go into a freshly initialised model leaf by leaf, with a report of every leaf; a match in
part is refused unless the run file allows it. The source is the model as it was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from tlx import registry, trees
from tlx.config import SourceConfig, WeightsConfig
from tlx.dialect import Dialect
from tlx.errors import WeightsError, listed
from tlx.matching import match
from tlx.model import Model
from tlx.protocols import ForeignNames, Noted, WeightSource
from tlx.types import FreshLeaf, LoadReport, Variables


class Source(NamedTuple):
    """A source model with its numbers; `classes` of its own head, None where it has no head or
    the file does not name them."""

    model: Model
    variables: Variables
    classes: tuple[str, ...] | None


class Loaded(NamedTuple):
    """The target's starting point, what was loaded, and the source it came from."""

    variables: Variables
    report: LoadReport
    source: Source


def open_weights(config: WeightsConfig) -> WeightSource:
    """The weight source that `[weights]` names."""
    return registry.build("weights", config.name, config.options)


def load(config: WeightsConfig, source: WeightSource, model: Model, fresh: Variables) -> Loaded:
    """`fresh` with the leaves of the file.

    The head is new unless `[weights] head = "keep"`. WeightsError where a backbone leaf is not in
    the file and no `allow` glob covers it, or nothing of the backbone is."""
    backbone = model.backbone
    dialects = backbone.dialects if isinstance(backbone, ForeignNames) else ()
    found, report = match(source.tensors(), fresh, dialects)
    if isinstance(source, Noted):
        report = report._replace(notes=(*source.notes, *report.notes))
    parts = ("backbone", "head") if config.head == "keep" else ("backbone",)
    refused = [
        leaf
        for leaf in report.initialised
        if trees.part(leaf.path) in parts
        and not any(fnmatchcase(leaf.path, glob) for glob in config.allow)
    ]
    if refused:
        shown = "\n".join(f"  {leaf.path}: {leaf.why}" for leaf in refused[:8])
        more = f"\n  and {len(refused) - 8} more" if len(refused) > 8 else ""
        other = listed([tensor.name for tensor in report.skipped[:5]])
        raise WeightsError(
            f"The weights {config.name!r} do not fit the backbone: {len(refused)} leaves are "
            f"missing or differ.\n{shown}{more}\nNot used from the file: {other}. Choose the "
            f"backbone that the weights were made for ('tlx weights inspect' says which), or list "
            f'what may differ in [weights] allow = ["pattern", ...].'
        )
    for glob in config.allow:
        trees.matching(fresh, glob)
    with_head = "head" in found.params and not any(
        trees.part(leaf.path) == "head" for leaf in report.initialised
    )
    kept = Source(
        model if with_head else Model(model.backbone, None, model.inputs),
        found if with_head else _without_head(found),
        source.classes if with_head else None,
    )
    if config.head == "new" and model.head is not None:
        found = Variables(
            {**found.params, "head": fresh.params["head"]},
            {**found.state, "head": fresh.state["head"]},
        )
        report = _head_is_new(report, dialects)
    return Loaded(found, report, kept)


def others(configs: Mapping[str, SourceConfig]) -> dict[str, Source]:
    """The source models that `[sources.NAME]` tables name, from their run folders."""
    from tlx.saved import load as load_run

    found = {}
    for name, config in configs.items():
        run = load_run(config.run)
        found[name] = Source(run.model, run.variables, run.classes)
    return found


def _without_head(variables: Variables) -> Variables:
    return Variables(
        {"backbone": variables.params["backbone"]}, {"backbone": variables.state["backbone"]}
    )


def _head_is_new(report: LoadReport, dialects: tuple[Dialect, ...]) -> LoadReport:
    why = "the head is new for this target"
    body = tuple(leaf for leaf in report.loaded if trees.part(leaf.path) != "head")
    heads = [leaf for leaf in report.loaded if trees.part(leaf.path) == "head"]
    fresh = [
        leaf._replace(why=why) if trees.part(leaf.path) == "head" else leaf
        for leaf in report.initialised
    ]
    fresh += [FreshLeaf(leaf.path, leaf.shape, why) for leaf in heads]
    spoken = [dialect for dialect in dialects if dialect.name == report.dialect]

    def of_head(name: str) -> bool:
        paths = [name, *(path for dialect in spoken for path, _ in dialect.leaves(name))]
        return any(trees.part(path) == "head" for path in paths)

    other = tuple(tensor for tensor in report.skipped if not of_head(tensor.name))
    return report._replace(loaded=body, initialised=tuple(fresh), skipped=other)
