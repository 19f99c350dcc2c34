"""What a strategy feeds and what comes of it, traced once when a run is assembled: no numbers.

The forward of every phase is held against its contract, in the mode in which it trains and in the
one in which it is tested. What it reads is seen on the way: whatever is tested has to be what is
saved, a cached prefix has to hold all that is read of it, and what is called trained has to have a
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tlx import returned, trees
from tlx.contracts.calls import called, calling, has_returned, where
from tlx.devices.flows import flows
from tlx.errors import ContractError, listed
from tlx.model import Model, Prefix
from tlx.objective import Objective, augmented
from tlx.planning.plan import Planned
from tlx.quantities import OF_FEATURES
from tlx.types import Batch, Constants, Forward, Mode, PyTree, Variables

OWN = ("strategy", "head")
"""The parts whose leaves are looked at for a gradient."""


class Passes(NamedTuple):
    """What the passes of a run are traced with: the shapes that a step has, and `cached`, whether
    what a frozen prefix says of a picture may be kept."""

    strategy: str
    variables: Variables
    batch: Batch
    constants: Constants
    cached: bool


def check(phases: Sequence[tuple[Planned, Objective]], given: Passes) -> None:
    """Raises ContractError for a forward that fails or gives what it should not, for one that is
    tested with what is not saved, for one that would read less from a cache than without it, and
    for a leaf of the strategy's own, or a head, that moves in some phase and has a gradient in
    none."""
    for _, objective in phases[:1]:
        key = jax.random.key(0)
        jax.eval_shape(partial(augmented, objective.augmentations), given.batch, key)
    alive: set[str] = set()
    seen: list[Any] = []
    for planned, objective in phases:
        if planned.phase.forward in seen:
            continue
        seen.append(planned.phase.forward)
        same = [one for one, _ in phases if one.phase.forward == planned.phase.forward]
        tested = _tested(planned, given)
        _refuse_unsaved(planned, given, tested)
        trained, reached = _trained(planned, objective, given)
        alive |= reached
        if given.cached and any(one.model.frozen for one in same):
            _refuse_unkept(planned, objective, given, trained | tested.features)
    _refuse_untrained([planned for planned, _ in phases], given, alive)


class _Tested(NamedTuple):
    """What the outputs of a forward in mode 'eval' read: names of features and paths of leaves
    beside backbone and head; `features` of all that it returns."""

    of_outputs: frozenset[str]
    others: frozenset[str]
    features: frozenset[str]


def _tested(planned: Planned, given: Passes) -> _Tested:
    """The forward of a phase in mode 'eval'."""
    model = planned.model.with_frozen(planned.model.depth, planned.phase.norm)

    def passed(params: Any, state: Any, features: Any, batch: Any, constants: Any) -> Any:
        found = _forward(planned, model, params, state, features, batch, constants, "eval", given)
        _judged(model, found.outputs, batch)
        return found.outputs, (found.loss, found.state.get("strategy"))

    features = _features(model, given)
    arguments = (*given.variables, features, given.batch, given.constants)
    (outputs, rest), _ = flows(passed, *arguments)
    paths = list(trees.flat(arguments))
    of = [_read(paths, one) for one in (outputs, rest)]
    names = [frozenset(p.removeprefix("2/") for p in one if p.startswith("2/")) for one in of]
    beside = {
        path.partition("/")[2]
        for path in of[0]
        if path.startswith(("0/", "1/")) and path.split("/")[1] not in ("backbone", "head")
    }
    return _Tested(names[0], frozenset(beside), names[0] | names[1])


def _trained(
    planned: Planned, objective: Objective, given: Passes
) -> tuple[frozenset[str], set[str]]:
    """(the features that the forward of a phase reads in mode 'train', the leaves of `OWN` that
    have a gradient in it)."""
    model = planned.model.with_frozen(planned.model.depth, planned.phase.norm)
    own = {part: given.variables.params[part] for part in OWN if part in given.variables.params}

    def backwards(
        own: Any, params: Any, state: Any, features: Any, batch: Any, constants: Any, ones: Any
    ) -> Any:
        def run(own: Any) -> Any:
            found = _forward(
                planned, model, {**params, **own}, state, features, batch, constants, "train", given
            )
            _followed(objective, {**params, **own}, found.state, given)
            also = (found.features, found.outputs) if objective.terms else ()
            return found.loss, (found.state.get("strategy"), also)

        loss, pull, aux = jax.vjp(run, own, has_aux=True)
        return pull(ones)[0], (loss, aux[0]), aux[1]

    features = _features(model, given)
    ones = jax.ShapeDtypeStruct(given.batch["weight"].shape, jnp.float32)
    arguments = (own, *given.variables, features, given.batch, given.constants, ones)
    (slope, loss, also), _ = flows(backwards, *arguments)
    paths = list(trees.flat(arguments))
    last = len(paths) - 1
    alive = {path for path, found in _each(slope).items() if last in found}
    alive |= {p.removeprefix("0/") for p in _read(paths, also) if p.startswith("0/")}
    if objective.effective is not None:
        alive |= _behind(objective.effective, given.variables.params)
    read = {p.removeprefix("3/") for p in _read(paths, loss) if p.startswith("3/")}
    return frozenset(read), alive


def _behind(effective: Callable[[Any], Any], params: Any) -> set[str]:
    """The strategy's leaves that change what the network runs with."""
    out, _ = flows(lambda params: {**effective(params), "strategy": None}, params)
    return {path for path in _read(list(trees.flat(params)), out) if path.startswith("strategy/")}


def _forward(
    planned: Planned,
    model: Model,
    params: Any,
    state: Any,
    features: Any,
    batch: Any,
    constants: Any,
    mode: Mode,
    given: Passes,
) -> Forward:
    """One pass of a phase over a batch whose features are known, held against the contract."""
    function, count = planned.phase.forward, batch["weight"].shape[0]
    who = f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
    fed = batch if features is None else {**batch, "prefix": Prefix(None, features)}
    with calling(who, function):
        found = function(
            model, params, state, fed, constants,
            rng=jax.random.key(0), mode=mode, progress=jnp.float32(0.5),
        )  # fmt: skip
    has_returned(who, function, found, isinstance(found, Forward), "tlx.types.Forward")
    returned.per_example(found.loss, count, f"{who}, as its loss,", function)
    returned.rows(found.features, count, f"{who}, as its features,", function)
    if found.outputs is not None:
        returned.leading(found.outputs, count, f"{who}, as its outputs,", function)
    returned.alike(found.state, state, f"{who}, as its state,", function)
    return found


def _followed(objective: Objective, params: Any, state: Any, given: Passes) -> None:
    """The state after an update has the form that it had."""
    if (averaging := objective.averaging) is not None:
        who = f"`after_update` of the strategy {given.strategy!r}"
        with calling(who, averaging.after_update):
            found = averaging.after_update(params, state, progress=jnp.float32(0.5))
        returned.alike(found, state, who, averaging.after_update)


def _judged(model: Model, outputs: PyTree, batch: Batch) -> None:
    """What the head makes of outputs is what its contract says."""
    head, count = model.head, batch["weight"].shape[0]
    if head is None or outputs is None:
        return
    kind = type(head).__name__
    with called(head, "head", "measure", {"batch": batch}):
        measured = head.measure(outputs, batch)
    who = f"`measure` of the head {kind}"
    has_returned(who, head.measure, measured, isinstance(measured, Mapping), "sums by name")
    returned.arrays(dict(measured), who, head.measure)
    with called(head, "head", "predict"):
        said = head.predict(outputs)
    returned.rows(said, count, f"`predict` of the head {kind}", head.predict)


def _refuse_unsaved(planned: Planned, given: Passes, tested: _Tested) -> None:
    who = (
        f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
        f"{where(planned.phase.forward)}"
    )
    if tested.others:
        raise ContractError(
            f"{who} makes its outputs with {listed(sorted(tested.others))}, which would be tested "
            f"and is no part of the model that is saved: backbone and head. Let it use these in "
            f"its loss alone, or learn a change to the backbone with `effective`."
        )
    needs = planned.model.head.needs if planned.model.head is not None else ()
    if extra := tested.of_outputs - set(needs):
        raise ContractError(
            f"{who} makes its outputs with the features {listed(sorted(extra))}, and the head "
            f"reads {listed(needs)} alone: what is saved would predict otherwise than it was "
            f"tested. Give the head other features, or use these in the loss alone."
        )


def _refuse_unkept(
    planned: Planned, objective: Objective, given: Passes, read: frozenset[str]
) -> None:
    """What a cached prefix holds is what the head needs, unless a divergence asks for more."""
    head = planned.model.head
    if head is None or any(term.words & OF_FEATURES for term in objective.terms):
        return
    if extra := read - set(head.needs):
        raise ContractError(
            f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
            f"{where(planned.phase.forward)} reads the features {listed(sorted(extra))}, and of "
            f"frozen stages only those that the head needs are kept: {listed(head.needs)}. Set "
            f"cache_gb = 0 to compute all of them at every step."
        )


def _refuse_untrained(phases: Sequence[Planned], given: Passes, alive: set[str]) -> None:
    """Of the strategy's own leaves that move each has a gradient somewhere, and of a head's one."""
    moving = {
        path for planned in phases for path, moves in trees.flat(planned.trainable).items() if moves
    }
    steps = [planned for planned in phases if planned.phase.solve is None]
    if not steps:
        return
    dead = sorted(path for path in moving - alive if path.startswith("strategy/"))
    head = {path for path in moving if path.startswith("head/")}
    if not dead and head and not head & alive and len(steps) == len(phases):
        dead = sorted(head)
    if dead:
        raise ContractError(
            f"The strategy {given.strategy!r}{where(phases[0].phase.forward)} would train "
            f"{listed(dead[:3])}{', ...' if len(dead) > 3 else ''}, which has a gradient in no "
            f"phase: the loss does not depend on it. Put it into the group 'frozen', or leave it "
            f"out."
        )


def _features(model: Model, given: Passes) -> PyTree:
    """The shapes of the features of a batch; None for a model without a head, which nobody tests
    and for which all of them are kept."""
    if model.head is None:
        return None
    program = _backbone(model.with_frozen(0, "train"))
    return program.eval_shape(*given.variables, given.batch["image"])


@lru_cache(maxsize=4)
def _backbone(model: Model) -> Any:
    """Traced once for all runs of a study."""

    @jax.jit
    def features(params: Any, state: Any, image: Any) -> Any:
        return model.features(params, state, image, rng=jax.random.key(0), mode="eval")[0]

    return features


def _each(tree: PyTree) -> Mapping[str, frozenset[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, frozenset))
    return {trees.path_of(keys): found for keys, found in leaves}


def _read(paths: list[str], tree: PyTree) -> set[str]:
    """The paths of the arguments that reach any leaf of a tree of `flows`."""
    return {paths[number] for found in _each(tree).values() for number in found}
