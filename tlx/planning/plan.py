"""From a strategy's phase to what really moves.

Turns a phase's groups into a mask over the leaves, finds the frozen prefix of the backbone, and
refuses combinations in which something called frozen would still change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from tlx import returned, trees
from tlx.backbones.leaves import leaf_of
from tlx.contracts.calls import calling, has_returned, has_said, where
from tlx.contracts.declared import fault_of_phase
from tlx.errors import ConfigError, ContractError, did_you_mean, listed
from tlx.extension import added_features
from tlx.model import MOVING, Model
from tlx.protocols import Phase, Reparametrises, Staged, Strategy
from tlx.types import Params, PyTree


class Planned(NamedTuple):
    """A phase made concrete. `trainable`: a bool per leaf; `multipliers`: a factor on the
    learning rate per moving leaf (None elsewhere); `start`: its first global step; `decays`: per
    moving leaf whether weight decay goes to it."""

    phase: Phase
    model: Model
    trainable: PyTree
    multipliers: PyTree
    start: int
    decays: PyTree = None

    @property
    def stop(self) -> int:
        """The global step after its last."""
        return self.start + self.phase.steps

    def moving(self, params: Params) -> int:
        """How many numbers move."""
        return trees.count(trees.partition(params, self.trainable)[0])


def plan(strategy: Strategy, model: Model, params: Params, steps: int) -> tuple[Planned, ...]:
    """All phases of a run of `steps` steps; phases without steps are left out."""
    planned = []
    start = 0
    changed = reparametrised(strategy, params)
    for phase in _phases(strategy, model, steps):
        if phase.steps > 0:
            planned.append(_planned(phase, model, params, start, changed))
        start += phase.steps
    if start != steps:
        raise ConfigError(f"The strategy's phases add up to {start} steps instead of {steps}.")
    return tuple(planned)


def reparametrised(strategy: Strategy, params: Params) -> frozenset[str]:
    """Paths of the leaves with which the network runs otherwise than they are learnt: those that
    come out of the strategy's `effective` as something else than what went in."""
    if not isinstance(strategy, Reparametrises):
        return frozenset()
    who = f"`effective` of the strategy {type(strategy).__name__}"
    with calling(who, strategy.effective, {"params": params}):
        closed, shapes = jax.make_jaxpr(strategy.effective, return_shape=True)(params)
    returned.alike(shapes, params, who, strategy.effective)
    traced = closed.jaxpr
    pairs = zip(trees.flat(params), traced.invars, traced.outvars, strict=True)
    return frozenset(path for path, into, out in pairs if into is not out)


def _phases(strategy: Strategy, model: Model, steps: int) -> tuple[Phase, ...]:
    """The strategy's phases. Raises ContractError where it fails, or returns anything else."""
    who = f"`phases` of the strategy {type(strategy).__name__}"
    with calling(who, strategy.phases):
        found = strategy.phases(model, steps)
    fine = isinstance(found, tuple | list)
    has_returned(who, strategy.phases, found, fine, "phases (tlx.protocols.Phase)")
    has_said(who, strategy.phases, next(filter(None, map(fault_of_phase, found)), ""))
    return tuple(found)


def _groups(phase: Phase, params: Params) -> PyTree:
    """The name of every leaf's group. Raises ContractError for what is no name."""
    with calling(f"The `group` of phase {phase.name!r}", phase.group):
        names = {path: phase.group(path) for path in trees.flat(params)}
    for path, name in names.items():
        if not isinstance(name, str):
            raise ContractError(
                f"In phase {phase.name!r}{where(phase.group)} the group of {path!r} is a name, and "
                f"it is {name!r}. The group 'frozen' does not move."
            )
    return trees.unflat(params, names)


def _planned(
    phase: Phase, model: Model, params: Params, start: int, changed: frozenset[str]
) -> Planned:
    _refuse_unknown_reads(phase, model)
    group = _groups(phase, params)
    if phase.norm == "frozen_affine":
        group = {**group, "backbone": _without_norms(model, group["backbone"])}
    present = set(jax.tree.leaves(group))
    if present == {"frozen"}:
        raise ConfigError(f"Nothing moves in phase {phase.name!r}: every leaf is frozen.")
    for name in phase.lr:
        if name not in present:
            raise ConfigError(
                f"Phase {phase.name!r} sets a learning rate for the group {name!r}, which holds no "
                f"leaf. Groups: {listed(sorted(present))}."
            )
    if phase.solve is not None and model.extension is not None:
        raise ConfigError(
            f"Phase {phase.name!r} is solved for what the backbone says of pictures, and the "
            f"strategy changes the inputs or the features. Train the head by steps."
        )
    trainable = jax.tree.map(lambda name: name != "frozen", group)
    multipliers = jax.tree.map(
        lambda name: None if name == "frozen" else float(phase.lr.get(name, 1.0)), group
    )
    if phase.solve is not None and (not_head := {
        top for top, names in group.items() if {*jax.tree.leaves(names)} - {"frozen"}
    } - {"head"}):  # fmt: skip
        raise ConfigError(
            f"Phase {phase.name!r} is solved for the head alone, but {listed(sorted(not_head))} "
            f"would move in it, too."
        )
    frozen = _frozen_prefix(phase, model, group["backbone"], changed)
    decays = trees.partition(_decays(model, params), trainable)[0]
    running = model.with_frozen(frozen, phase.norm)
    return Planned(phase, running, trainable, multipliers, start, decays)


def _refuse_unknown_reads(phase: Phase, model: Model) -> None:
    known = [f.name for f in (*model.backbone.features, *added_features(model.extension))]
    for name in phase.reads:
        if name not in known:
            raise ConfigError(
                f"Phase {phase.name!r}{where(phase.forward)} `reads` the feature {name!r}, which "
                f"the network has not.{did_you_mean(name, known)} It has: {listed(known)}."
            )


def _decays(model: Model, params: Params) -> PyTree:
    """Whether weight decay goes to a leaf: to all of rank 2 and more, but to no bias and no norm
    of the backbone, whose stacks of layers and heads have a higher rank."""

    def of_backbone(path: str, leaf: Any) -> bool:
        info = leaf_of(model.backbone, path)
        return info.kind not in ("bias", "norm") and leaf.ndim - len(info.layers) > 1

    decays = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    body = params["backbone"]
    return {**decays, "backbone": jax.tree.map(of_backbone, trees.paths(body), body)}


def _without_norms(model: Model, group: PyTree) -> PyTree:
    """Scales and offsets of the backbone's norms do not move."""
    return jax.tree.map(
        lambda path, name: "frozen" if leaf_of(model.backbone, path).kind == "norm" else name,
        trees.paths(group),
        group,
    )


def _frozen_prefix(phase: Phase, model: Model, group: PyTree, changed: frozenset[str]) -> int:
    """How many leading stages are frozen whole, and run with the parameters that they have."""
    moving: dict[str, bool] = {}
    for path, name in trees.flat(group).items():
        stage = leaf_of(model.backbone, path).stage
        moves = name != "frozen" or f"backbone/{path}" in changed
        moving[stage] = moving.get(stage, False) or moves
    if not any(moving.values()):
        return model.depth
    if all(moving.values()):
        return 0
    if not isinstance(model.backbone, Staged):
        raise ConfigError(
            f"Phase {phase.name!r} freezes a part of the backbone, which only a backbone that runs "
            f"in stages can do. Freeze all of it or nothing, or use a Staged backbone."
        )
    stages = model.backbone.stages
    prefix = next(i for i, stage in enumerate(stages) if moving.get(stage, False))
    later = [stage for stage in stages[prefix:] if not moving.get(stage, True)]
    if later and MOVING[phase.norm] != "tune":
        raise ConfigError(
            f"Phase {phase.name!r} freezes {listed(later)} above stages that move; batch "
            f"statistics there would still change. Use norm = 'frozen', or freeze from the "
            f"first stage on."
        )
    return prefix
