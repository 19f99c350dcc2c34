"""Everything that a run is assembled of, for a network that ends before its last stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tlx.backbones.shortened import (
    Shortened,
    ends_at,
    features_by_stage,
    root,
    shortened,
    stages_of,
)
from tlx.contracts.extension import ChangesFeatures
from tlx.model import Model
from tlx.types import LoadReport, Variables

if TYPE_CHECKING:
    from tlx.weights.sources import Source


class Ending(NamedTuple):
    """Where a network ends; nothing changes where `body` is None."""

    body: Shortened | None

    @property
    def unread(self) -> frozenset[str]:
        """Paths of the leaves of a model that lie above."""
        if self.body is None:
            return frozenset()
        named = (("params", self.body.params), ("state", self.body.state))
        return frozenset(f"{top}/backbone/{path}" for top, tree in named for path in tree.gone)

    def model(self, model: Model) -> Model:
        """A model that ends there, if it is of the same backbone and has so many stages."""
        if self.body is None or root(model.backbone) != self.body.whole:
            return model
        there = ends_at(model.backbone)
        return model if there and there < self.body.ends else replace(model, backbone=self.body)

    def variables(self, variables: Variables) -> Variables:
        """The numbers of such a model."""
        if self.body is None:
            return variables
        params, state = variables.params["backbone"], variables.state["backbone"]
        body = self.body.cut(Variables(params, state))
        return Variables(
            {**variables.params, "backbone": body.params},
            {**variables.state, "backbone": body.state},
        )

    def source(self, source: Source) -> Source:
        """A source that ends there, if it is of the same backbone."""
        model = self.model(source.model)
        if model is source.model:
            return source
        return source._replace(model=model, variables=self.variables(source.variables))

    def report(self, report: LoadReport | None) -> LoadReport | None:
        """What was loaded, without what lies above."""
        if report is None:
            return None
        unread = self.unread
        return report._replace(
            loaded=tuple(leaf for leaf in report.loaded if leaf.path not in unread),
            initialised=tuple(leaf for leaf in report.initialised if leaf.path not in unread),
        )


def ending(model: Model, stages: int) -> Ending:
    """The end of a model after so many stages."""
    if stages == len(stages_of(model.backbone)):
        return Ending(None)
    return Ending(shortened(root(model.backbone), stages, model.abstract_x()))


def lengthened(source: Source) -> Source:
    """A source of which the last stages were left out, with zeros in their place: something to
    see by who reads what."""
    body = source.model.backbone
    if not isinstance(body, Shortened):
        return source
    (params, state), whole = source.variables, replace(source.model, backbone=body.whole)
    params = {**params, "backbone": body.params.filled(params["backbone"])}
    state = {**state, "backbone": body.state.filled(state["backbone"])}
    return source._replace(model=whole, variables=Variables(params, state), lacks=True)


def lacking(end: Ending, report: LoadReport | None) -> bool:
    """Whether a file gave something of a backbone, and not what lies above its end."""
    unread = end.unread
    return report is not None and any(leaf.path in unread for leaf in report.initialised)


def needed(model: Model) -> int:
    """How many stages the head of a model needs; one where there
    is no head, none where there are no stages, all where a strategy changes the features: who
    knows which it looks at."""
    depth, features = len(stages_of(model.backbone)), model.backbone.features
    if isinstance(model.extension, ChangesFeatures):
        return depth
    if model.head is None:
        return min(depth, 1)
    if not depth or features[-1].name in model.head.needs:
        return depth
    return stages_with(model, model.head.needs)


def stages_with(model: Model, names: Iterable[str]) -> int:
    """How many stages there are up to the last in which one of these features arises."""
    wanted = set(names)
    arise = features_by_stage(model.backbone, model.abstract_x())
    return max((n for n, some in enumerate(arise, start=1) if wanted & some), default=len(arise))
