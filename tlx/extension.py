"""What a strategy adds to the network itself: its hooks, called and held against their contract.

A hook is a function of the strategy's own leaves. It sees the inputs before the backbone, or the
features behind it, and what it returns takes their place for everybody (`tlx.contracts.extension`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import partial_eval

from tlx import returned
from tlx.contracts.calls import calling, has_returned, where
from tlx.contracts.extension import AddsFeatures, ChangesFeatures, ChangesInputs, Extension
from tlx.errors import ContractError, listed
from tlx.types import Batch, Features, FeatureSpec, Mode, PyTree, State, Variables

if TYPE_CHECKING:
    from tlx.model import Model
    from tlx.protocols import Strategy

OWN = "strategy"
"""Where the leaves lie that the hooks are given."""
FIRST = 2**20
"""Of the numbers that hooks fold into a key, beyond those that a backbone counts stages with."""


def extension_of(strategy: object) -> Extension | None:
    """What a strategy extends its model by: itself, if it has a hook."""
    return strategy if isinstance(strategy, ChangesInputs | ChangesFeatures) else None


def added_features(extension: Extension | None) -> tuple[FeatureSpec, ...]:
    """The features that only the extension makes."""
    return tuple(extension.added_features) if isinstance(extension, AddsFeatures) else ()


def change_inputs(
    extension: Extension | None, variables: Variables, x: PyTree, *, rng: Array, mode: Mode
) -> tuple[PyTree, State]:
    """What the backbone gets for `x` (B,...), and the strategy's state. Raises ContractError where
    the hook fails, or returns what the backbone was not built for."""
    own, state = _own(variables)
    if not isinstance(extension, ChangesInputs):
        return x, state
    hook, who = extension.change_inputs, _who(extension, "change_inputs")
    with calling(who, hook, {"own": own, "own_state": state}):
        found = hook(own, state, x, rng=rng, mode=mode)
    changed, state = _pair(found, who, hook, state)
    returned.alike(changed, x, f"{who}, as the inputs,", hook)
    return changed, state


def change_features(
    extension: Extension | None,
    variables: Variables,
    features: Features,
    x: PyTree,
    *,
    rng: Array,
    mode: Mode,
) -> tuple[Features, State]:
    """What everybody sees for the backbone's `features`, each (B,...), and the strategy's state.
    Raises ContractError where the hook fails, or returns other names than it has declared."""
    own, state = _own(variables)
    if not isinstance(extension, ChangesFeatures):
        return features, state
    hook, who = extension.change_features, _who(extension, "change_features")
    with calling(who, hook, {"own": own, "own_state": state, "features": features}):
        found = hook(own, state, features, x, rng=rng, mode=mode)
    changed, state = _pair(found, who, hook, state)
    count = next(iter(features.values())).shape[0]
    returned.rows(changed, count, f"{who}, as the features,", hook)
    wanted = [*features, *(spec.name for spec in added_features(extension))]
    if set(changed) != set(wanted):
        raise ContractError(
            f"{who}{where(hook)} has to return the features that it was given and those of "
            f"`added_features`, {listed(sorted(wanted))}, and it returns "
            f"{listed(sorted(changed))}. Give back what it does not change as it is, and declare "
            f"what it adds: added_features = (FeatureSpec(name, kind, channels), ...)."
        )
    return changed, state


def extended_features(
    model: Model, variables: Variables, batch: Batch, *, rng: Array, mode: Mode
) -> tuple[Features, State]:
    """Features of a batch through the hooks of a model and its backbone, and the whole state."""
    extension = model.extension
    first, last = (jax.random.fold_in(rng, FIRST + number) for number in range(2))
    prepared = model.preprocess(batch)
    x, own = change_inputs(extension, variables, prepared, rng=first, mode=mode)
    changed = x if isinstance(extension, ChangesInputs) else None
    features, body = model.backbone_features(variables, batch, changed, rng=rng, mode=mode)
    between = variables._replace(state=_with_own(variables.state, own))
    blank = _blank(model, variables, batch, features)
    known = {**features, **blank}
    found, own = change_features(extension, between, known, x, rng=last, mode=mode)
    kept = {name: value for name, value in found.items() if value is not blank.get(name)}
    return kept, {**_with_own(variables.state, own), "backbone": body}


def begun_features(
    model: Model, rng: Array, batch: Batch, features: Features, x: PyTree
) -> Features:
    """The features that a head is begun with, for those of the backbone: as the hooks change them
    when the strategy begins."""
    if not isinstance(model.extension, ChangesFeatures):
        return features
    for_own, for_hook = jax.random.split(jax.random.fold_in(rng, FIRST))
    own = begun(model, for_own, batch)
    numbers = Variables({OWN: own.params}, {OWN: own.state})
    return change_features(model.extension, numbers, features, x, rng=for_hook, mode="eval")[0]


def begun(model: Model, rng: Array, batch: Batch) -> Variables:
    """The leaves with which the strategy begins that extends a model. Raises ContractError where
    its `init` fails."""
    strategy: Any = model.extension
    return init_own(strategy, type(strategy).__name__, model, rng, batch)


def init_own(strategy: Strategy, name: str, model: Model, rng: Array, batch: Batch) -> Variables:
    """The leaves with which a strategy of a `name` begins. Raises ContractError where its `init`
    fails, or returns anything but arrays."""
    who = f"`init` of the strategy {name}"
    with calling(who, strategy.init):
        own = strategy.init(rng, model.bare, batch)
    return returned.variables(own, who, strategy.init)


def _blank(model: Model, variables: Variables, batch: Batch, features: Features) -> Features:
    """Zeros for the features of frozen stages that were not kept, because nobody reads their
    numbers; a hook may still look at their shapes, or hand them on."""
    if batch.frozen is None or not isinstance(model.extension, ChangesFeatures):
        return {}
    run = partial(model.bare.frozen_features, rng=jax.random.key(0))
    every = jax.eval_shape(run, variables, batch._replace(frozen=None)).features
    count = batch.weight.shape[0]
    return {
        name: jnp.zeros((count, *like.shape[1:]), like.dtype)
        for name, like in every.items()
        if name not in features
    }


def _with_own(state: State, own: State) -> State:
    return {**state, OWN: own} if OWN in state else state


def needed_features(
    model: Model, variables: Variables, batch: Batch, reads: Iterable[str] = ()
) -> frozenset[str]:
    """Names of the backbone's features that have to be there for what the head of a model needs
    and a phase `reads`: these, and those that a hook reads. What it hands on as it is and nobody
    needs is not among them. Only shapes matter of the numbers and the batch."""
    needs = frozenset((*(model.head.needs if model.head is not None else ()), *reads))
    if not isinstance(model.extension, ChangesFeatures):
        return needs

    def given(variables: Variables, batch: Batch) -> tuple[Features, PyTree]:
        body = model.bare.with_frozen(0, "train")
        key = jax.random.key(0)
        return body.features(variables, batch, rng=key, mode="eval")[0], model.preprocess(batch)

    features, x = jax.eval_shape(given, variables, batch)
    modes: tuple[Mode, ...] = ("train", "eval")
    return frozenset[str]().union(
        *(_reads(model.extension, variables, features, x, needs, mode) for mode in modes)
    )


def _reads(
    extension: Extension,
    variables: Variables,
    features: Features,
    x: PyTree,
    needs: frozenset[str],
    mode: Mode,
) -> set[str]:
    names = list(features)

    def changed(given: list[Any], variables: Variables, x: PyTree) -> Any:
        known = dict(zip(names, given, strict=True))
        key = jax.random.key(0)
        found, state = change_features(extension, variables, known, x, rng=key, mode=mode)
        return dict(found), state

    given = [features[name] for name in names]
    closed, shapes = jax.make_jaxpr(changed, return_shape=True)(given, variables, x)
    into = dict(zip(names, closed.jaxpr.invars[: len(names)], strict=True))
    of_features = sorted(shapes[0])  # as a tree's leaves are, the state's behind them
    paths = [*of_features, *("" for _ in jax.tree.leaves(shapes[1]))]
    outputs = [
        name in needs or into.get(name) is not out
        for name, out in zip(paths, closed.jaxpr.outvars, strict=True)
    ]
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, outputs)
    return {name for name, reading in zip(names, used[: len(names)], strict=True) if reading}


def _own(variables: Variables) -> tuple[PyTree, State]:
    return variables.params.get(OWN, {}), variables.state.get(OWN, {})


def _who(extension: Extension, hook: str) -> str:
    return f"`{hook}` of the strategy {type(extension).__name__}"


def _pair(found: Any, who: str, hook: Any, before: State) -> tuple[Any, State]:
    """What a hook returned, if it is a value and a state of the form that it had."""
    fine = isinstance(found, tuple) and len(found) == 2
    has_returned(who, hook, found, fine, "(what it changed, own_state)")
    value, after = found
    returned.alike(after, before, f"{who}, as the strategy's state,", hook)
    return value, after
