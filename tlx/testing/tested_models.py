"""Whether a strategy trains what it says, and tests what is saved: checks of `strategies`.

A model is saved as backbone, head and what a strategy's hooks add. Behind frozen stages a batch may
bring what they say in place of pictures: of that only what the head needs, the phase `reads`, or a
hook reads. None of this shows in a loss that goes down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.contracts.calls import calling
from tlx.extension import needed_features
from tlx.model import MOVING
from tlx.protocols import Reparametrises, Staged
from tlx.testing.claims import NotApplicable, claim, claim_close, claim_same
from tlx.testing.compiling import quick_jit
from tlx.testing.world import constants
from tlx.types import Batch, FrozenFeatures, Mode, Variables

if TYPE_CHECKING:
    from tlx.testing.strategies import Subject


def check_tested_is_saved(subject: Subject) -> None:
    """The outputs of every phase in mode 'eval' are those of backbone and head by themselves, so
    that what is tested is what a saved model predicts."""
    if subject.model.head is None:
        raise NotApplicable("Without a head nothing is predicted.")
    params, state = subject.variables
    params = {**params, "strategy": _elsewhere(params.get("strategy", {}))}
    if isinstance(subject.thing, Reparametrises):
        params = subject.thing.effective(params)
    for planned in subject.phases:

        def both(params: Any, state: Any, planned: Any = planned) -> Any:
            here, key = subject.here, jax.random.key(3)
            variables = Variables(params, state)
            fed = planned.phase.forward(
                planned.model, variables, here.batch, constants(here),
                rng=key, mode="eval", progress=jnp.float32(0.5),
            )  # fmt: skip
            own = subject.model.apply(variables, here.batch, rng=key, mode="eval")
            return fed.outputs, own.outputs

        tested, saved = quick_jit(both)(params, state)
        where = f"The outputs of phase {planned.phase.name!r} beside those of backbone and head"
        claim_close(tested, saved, where)


def check_reads_what_is_kept(subject: Subject) -> None:
    """Behind frozen stages the loss of a phase is the same where a batch brings only those features
    that the head needs, the phase `reads`, and the strategy's own `change_features` reads."""
    model, here = subject.model, subject.here
    frozen = [planned for planned in subject.phases if planned.model.caches]
    if model.head is None or not frozen:
        raise NotApplicable("It freezes no stage in front of a head.")
    key, (params, state) = jax.random.key(3), subject.variables
    features, _ = model.bare.features(subject.variables, here.batch, rng=key, mode="eval")
    for planned in frozen:
        whole = planned.model.with_frozen(model.depth, planned.phase.norm)

        def loss(features: Any, planned: Any = planned, whole: Any = whole) -> Any:
            own = params
            if isinstance(subject.thing, Reparametrises):
                own = subject.thing.effective(params)
            kept = here.batch._replace(frozen=FrozenFeatures(None, features))
            return planned.phase.forward(
                whole, Variables(own, state), kept, constants(here),
                rng=key, mode="train", progress=jnp.float32(0.5),
            ).loss  # fmt: skip

        where = f"The loss of phase {planned.phase.name!r} with the features that the head needs"
        with calling(where, planned.phase.forward):
            needs = needed_features(model, subject.variables, here.batch, planned.phase.reads)
            few = quick_jit(loss)({name: features[name] for name in needs})
        claim_close(few, quick_jit(loss)(features), f"{where}, beside that with all of them")


def check_cached_is_the_same(subject: Subject) -> None:
    """Loss and outputs of a phase are the same where a batch brings what the frozen stages give as
    where they are computed from its pictures."""
    here, key, (params, state) = subject.here, jax.random.key(3), subject.variables
    frozen = [planned for planned in subject.phases if planned.model.caches]
    if not frozen:
        raise NotApplicable("Nothing of a frozen stage is computed ahead.")
    if "strategy" in params:
        params = {**params, "strategy": _elsewhere(params["strategy"])}
    if isinstance(subject.thing, Reparametrises):
        params = subject.thing.effective(params)
    variables = Variables(params, state)
    for planned in frozen:
        found = planned.model.frozen_features(variables, here.batch, rng=key)
        kept = here.batch._replace(frozen=found)
        modes: tuple[Mode, ...] = ("train", "eval")
        for mode in modes:

            def run(batch: Batch, planned: Any = planned, mode: Mode = mode) -> Any:
                passed = planned.phase.forward(
                    planned.model, variables, batch, constants(here),
                    rng=key, mode=mode, progress=jnp.float32(0.5),
                )  # fmt: skip
                return passed.loss, passed.outputs

            program = quick_jit(run)
            where = f"What phase {planned.phase.name!r} gives in mode {mode!r} for kept features"
            with calling(where, planned.phase.forward):
                cached = program(kept)
            claim_close(cached, program(here.batch), f"{where}, beside that for pictures")


def check_every_leaf_learns(subject: Subject) -> None:
    """Each of its own leaves that moves in some phase has a gradient there or in another one."""
    params, state = subject.variables
    if "strategy" not in params:
        raise NotApplicable("It has no parameters of its own.")
    params = {**params, "strategy": _elsewhere(params["strategy"])}
    moving: set[str] = set()
    learns: set[str] = set()
    for planned in subject.phases:
        slope = quick_jit(jax.grad(subject.loss(planned, "train"), has_aux=True))
        found, _ = slope(params, state, jax.random.key(3))
        for path, leaf in trees.flat(found).items():
            if path.startswith("strategy/") and planned.phase.group(path) != "frozen":
                moving.add(path)
                learns |= {path} if np.any(np.asarray(leaf)) else set()
    still = sorted(moving - learns)
    claim(
        not still,
        f"The loss of no phase depends on {still}; what does not learn belongs in the group "
        f"'frozen', or is left out.",
    )


def check_frozen_statistics(subject: Subject) -> None:
    """Batch statistics of frozen stages, and all of them under norm 'frozen', do not move."""
    backbone, checked = subject.model.backbone, 0
    assert isinstance(backbone, Staged)
    for planned in subject.phases:
        every = MOVING[planned.phase.norm] == "tune"
        frozen = backbone.stages if every else backbone.stages[: planned.model.frozen]
        after = subject.forward(planned, "train").state["backbone"]
        for stage in frozen:
            checked += 1
            claim_same(
                after[stage],
                subject.variables.state["backbone"][stage],
                f"Phase {planned.phase.name!r}, mode 'train': the statistics of the frozen {stage}",
            )
    if not checked:
        raise NotApplicable("It freezes no stage and no statistics.")


def _elsewhere(tree: Any) -> Any:
    """Other numbers near these: what begins at 0 may hide the gradient of something else."""

    def moved(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype)

    return jax.tree.map(moved, tree)
