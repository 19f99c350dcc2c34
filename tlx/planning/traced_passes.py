"""What a strategy feeds and what comes of it, traced once when a run is assembled: no numbers.

The forward of every phase is held against its contract, in the mode in which it trains and in the
one in which it is tested. What it reads is seen on the way: whatever is tested has to be what is
saved, a cached prefix has to hold all that is read of it, and what is called trained has to have a
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tlx import returned, trees
from tlx.contracts.calls import called, calling, has_returned
from tlx.contracts.extension import ChangesInputs
from tlx.devices.flows import flows
from tlx.model import Model
from tlx.objective import Objective, augmented
from tlx.planning import known_features, pass_refusals
from tlx.planning.plan import Planned
from tlx.planning.refusals import MOVED_BY
from tlx.protocols import ForwardFn
from tlx.types import (
    Batch,
    Constants,
    Features,
    Forward,
    Mode,
    Params,
    PyTree,
    State,
    Variables,
)

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


class Trained(NamedTuple):
    """What the pass of a `forward` in mode 'train' tells: the features that it reads, the leaves of
    `OWN` that are `alive`, having a gradient in it; and by divergence the words of it as shapes,
    and for each of their leaves the paths of the parameters that `reached` it."""

    forward: ForwardFn
    read: frozenset[str]
    alive: frozenset[str]
    shapes: Mapping[str, Mapping[str, PyTree]]
    reached: Mapping[str, Mapping[str, PyTree]]


def check(phases: Sequence[tuple[Planned, Objective]], given: Passes) -> list[Trained]:
    """The passes of the phases, each that differs from the others once. Raises ContractError for a
    forward that fails or gives what it should not, for one that is tested with what is not saved,
    for one that would read less from a cache than without it, and for a leaf of the strategy's own,
    or a head, that moves in some phase and has a gradient in none."""
    found: list[Trained] = []
    hooked: set[str] = set()
    key = jax.eval_shape(lambda: jax.random.key(0))
    first = phases[0][1]
    fed = jax.eval_shape(
        partial(augmented, first.augmentations, ports=first.model.ports), given.batch, key
    )
    for planned, objective in phases:
        forward = planned.phase.forward
        if any(forward == trained.forward for trained in found):
            continue
        same = [one for one, _ in phases if one.phase.forward == forward]
        tested = _tested(planned, given)
        pass_refusals.refuse_unsaved(planned, given, tested)
        trained = _trained(planned, objective, fed, given)
        found.append(trained)
        hooked |= _behind_hooks(planned, fed, given)
        for one in same if given.cached else ():
            if one.model.caches:
                pass_refusals.refuse_unkept(one, objective, given, trained.read | tested.features)
    alive = frozenset[str]().union(*(trained.alive for trained in found))
    pass_refusals.refuse_untrained([planned for planned, _ in phases], given, alive | hooked)
    return found


class _Shown(NamedTuple):
    """What a pass is given, as shapes; `features` are those of the batch."""

    params: Params
    state: State
    features: Features | None
    batch: Batch
    constants: Constants
    key: Any
    done: Any


def _shown(model: Model, batch: Batch, given: Passes) -> _Shown:
    """No features for a model without a head, which nobody tests and for which all are kept."""
    known = model.head is not None
    features = known_features.shapes(model, given.variables, given.batch) if known else None
    key, done = jax.eval_shape(lambda: (jax.random.key(0), jnp.float32(0)))
    return _Shown(*given.variables, features, batch, given.constants, key, done)


class Tested(NamedTuple):
    """What the outputs of a forward in mode 'eval' read: names of features and paths of leaves
    beside backbone and head; `features` of all that it returns."""

    of_outputs: frozenset[str]
    others: frozenset[str]
    features: frozenset[str]


def _tested(planned: Planned, given: Passes) -> Tested:
    """The forward of a phase in mode 'eval', behind the hooks of an extended model: what these
    read belongs to it."""
    model = planned.model.bare.with_frozen(planned.model.depth, planned.phase.norm)

    def passed(shown: _Shown) -> Any:
        batch = known_features.fed(shown.batch, shown.features)
        found = _forward(planned, model, shown, batch, "eval", given)
        _judged(model, found.outputs, shown.batch)
        return found.outputs, (found.loss, found.state.get("strategy"))

    shown = _shown(planned.model, given.batch, given)
    (outputs, rest), _ = flows(passed, shown)
    paths = list(trees.flat(shown))
    of = [_read(paths, one) for one in (outputs, rest)]
    names = [_below("features", one) for one in of]
    beside = _below("params", of[0]) | _below("state", of[0])
    others = {path for path in beside if path.split("/")[0] not in ("backbone", "head")}
    return Tested(names[0], frozenset(others), names[0] | names[1])


def _trained(planned: Planned, objective: Objective, batch: Batch, given: Passes) -> Trained:
    """The forward of a phase in mode 'train', and backwards to the leaves of `OWN`."""
    whole = planned.model
    model = whole.bare.with_frozen(whole.depth, planned.phase.norm)
    sharing = {name for name, source in objective.sources if known_features.alike(source, whole)}
    sharing = sharing if whole.extension is None else set[str]()
    objective = replace(objective, model=model, sharing=frozenset(sharing))

    def backwards(shown: _Shown, ones: Any) -> Any:
        def run(own: Any) -> Any:
            here = shown._replace(params={**shown.params, **own})
            batch = known_features.fed(here.batch, here.features)
            found = _forward(planned, model, here, batch, "train", given)
            _followed(objective, here.params, found.state, given)
            return found.loss, (found.state.get("strategy"), _words(objective, here, batch, found))

        own = {part: shown.params[part] for part in OWN if part in shown.params}
        loss, pull, (state, words) = jax.vjp(run, own, has_aux=True)
        return pull(ones)[0], (loss, state), words

    shown = _shown(whole, batch, given)
    ones = jax.ShapeDtypeStruct(given.batch.weight.shape, jnp.float32)
    (slope, loss, words), (_, _, shapes) = flows(backwards, shown, ones)
    paths = list(trees.flat(shown))
    changed = _behind(objective.effective, given.variables.params)
    alive = {path for path, found in _each(slope).items() if len(paths) in found}
    alive |= {path for path in frozenset().union(*changed.values()) if path.startswith("strategy/")}
    reached = dict[str, Mapping[str, PyTree]]()
    if objective.terms:
        leaves = _leaves(whole, paths, changed, given)
        reached = jax.tree.map(
            lambda found: frozenset().union(*(leaves[n] for n in found)), words, is_leaf=_labels
        )
        moving = [of for some in reached.values() for word, of in some.items() if word in MOVED_BY]
        for path in (path for found in jax.tree.leaves(moving) for path in found):
            alive |= {path} if path.split("/")[0] in OWN else set()
    read = _below("features", _read(paths, loss))
    return Trained(planned.phase.forward, read, frozenset(alive), shapes, reached)


def _behind_hooks(planned: Planned, batch: Batch, given: Passes) -> set[str]:
    """The strategy's leaves that have a gradient through the hooks of an extended model. Behind a
    change of the inputs lies the network, which is otherwise known."""
    model, part = planned.model, OWN[0]
    if model.extension is None or part not in given.variables.params or planned.phase.solve:
        return set()
    features = None
    if not isinstance(model.extension, ChangesInputs):
        features = known_features.shapes(model.bare, given.variables, given.batch)
        model = model.with_frozen(model.depth, planned.phase.norm)

    def backwards(shown: _Shown, ones: Any) -> Any:
        def run(own: Any) -> Any:
            here = shown._replace(params={**shown.params, part: own})
            fed = known_features.fed(here.batch, here.features)
            return _forward(planned, model, here, fed, "train", given).loss

        return jax.vjp(run, shown.params[part])[1](ones)[0]

    shown = _shown(model, batch, given)._replace(features=features)
    ones = jax.ShapeDtypeStruct(given.batch.weight.shape, jnp.float32)
    slope, _ = flows(backwards, shown, ones)
    last = len(trees.flat(shown))
    return {f"{part}/{path}" for path, found in _each(slope).items() if last in found}


def _words(objective: Objective, shown: _Shown, batch: Batch, forward: Forward) -> PyTree:
    """Of each term its words; the batch without the features that are known of it."""
    words = {}
    for term in objective.terms:
        given = (Variables(shown.params, shown.state), batch, shown.constants)
        keys = (shown.key, shown.key)
        found = objective.words(term, *given, forward, keys, shown.done)
        words[term.name] = {**found, "batch": shown.batch} if "batch" in found else found
    return words


def _leaves(
    model: Model, paths: Sequence[str], changed: Mapping[str, frozenset[str]], given: Passes
) -> list[frozenset[str]]:
    """Of each leaf that a pass is given, by number, the paths of the parameters behind it, as they
    are learnt; `changed` has these of each that the network runs with."""
    of_features = known_features.behind(model, given.variables, given.batch)
    found = []
    for path in paths:
        top, _, name = path.partition("/")
        run_with = of_features[name] if top == "features" else {name} if top == "params" else ()
        found.append(frozenset().union(*(changed.get(one, {one}) for one in run_with)))
    return found


def _behind(effective: Callable[[Any], Any] | None, params: Params) -> Mapping[str, frozenset[str]]:
    """Of each leaf that the network runs with the paths of those that are learnt, where the
    strategy makes it of them; none where it changes nothing."""
    if effective is None:
        return {}
    out, _ = flows(lambda params: {**effective(params), "strategy": None}, params)
    paths = list(trees.flat(params))
    return {path: frozenset(paths[n] for n in found) for path, found in _each(out).items()}


def _forward(
    planned: Planned, model: Model, shown: _Shown, batch: Batch, mode: Mode, given: Passes
) -> Forward:
    """One pass of a phase over a batch whose features are known, held against the contract."""
    function, count = planned.phase.forward, len(shown.batch.weight)
    who = f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
    with calling(who, function):
        found = function(
            model, Variables(shown.params, shown.state), batch, shown.constants,
            rng=shown.key, mode=mode, progress=shown.done,
        )  # fmt: skip
    has_returned(who, function, found, isinstance(found, Forward), "tlx.types.Forward")
    returned.per_example(found.loss, count, f"{who}, as its loss,", function)
    returned.rows(found.features, count, f"{who}, as its features,", function)
    if found.outputs is not None:
        returned.leading(found.outputs, count, f"{who}, as its outputs,", function)
    returned.alike(found.state, shown.state, f"{who}, as its state,", function)
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
    head, count = model.head, len(batch.weight)
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


def _each(tree: PyTree) -> Mapping[str, frozenset[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_labels)
    return {trees.path_of(keys): found for keys, found in leaves}


def _read(paths: list[str], tree: PyTree) -> set[str]:
    """The paths of the arguments that reach any leaf of a tree of `flows`."""
    return {paths[number] for found in _each(tree).values() for number in found}


def _below(top: str, paths: Iterable[str]) -> frozenset[str]:
    """Of paths those that lie below `top`, without it."""
    return frozenset(path.removeprefix(f"{top}/") for path in paths if path.startswith(f"{top}/"))


def _labels(found: Any) -> bool:
    return isinstance(found, frozenset)
