"""The objective: L_T(f) + lambda * D(f, f_S).

This is the only place that adds a task loss and weighted divergences. It hands every divergence
the words that it asks for, and computes no quantity that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx import returned
from tlx.contracts.calls import called, calling, described, has_returned
from tlx.contracts.input import AugmentsValues, Ports
from tlx.data.mixing import judged, mixed
from tlx.data.moved_targets import SpatialTargets, move_targets
from tlx.devices.rows import fetched
from tlx.model import Model
from tlx.protocols import Augmentation, Averages, Divergence, ForwardFn, Mixes
from tlx.quantities import asked
from tlx.run_file.run_config import WeightSchedule
from tlx.types import (
    Batch,
    Constants,
    Forward,
    Mode,
    Params,
    PyTree,
    State,
    Variables,
    with_entry,
)  # fmt: skip
from tlx.weight_schedule import share


@final
@dataclass(frozen=True)
class Term:
    """One divergence of an objective: the name it is logged and weighted under, the name of the
    source model it compares with, and how its weight moves over the run."""

    name: str
    divergence: Divergence
    source: str = "source"
    schedule: WeightSchedule = "constant"

    @property
    def words(self) -> frozenset[str]:
        """What the divergence asks for."""
        return asked(self.divergence, self.name)

    def value(self, words: Mapping[str, Any]) -> Array:
        """The divergence of its words. Raises ContractError for whatever goes wrong in it, and
        for anything else than one floating number."""
        with calling(f"The divergence {self.name!r}", self.divergence, words):
            found = self.divergence(**words)
        return _one_number(found, self)


class Seen(NamedTuple):
    """One pass over a batch: the batch as it was fed, what came of it, and each term's words."""

    batch: Batch
    forward: Forward
    words: Mapping[str, Mapping[str, Any]]


@final
@dataclass(frozen=True)
class Objective:
    """A function of the parameters: task loss plus weighted divergences of one batch.

    `sources` are (name, model) pairs; their numbers and all weights come with `Constants`.
    `effective` turns the parameters that are learnt into those that the network runs with;
    `averaging` is the strategy whose state follows every update.
    Augmentations apply to the training batch, before anybody sees it. `sharing` names sources
    whose first stages are those that the model has frozen: a batch's `frozen` serves them, too.
    `spatial` are the targets that move with an image."""

    model: Model
    forward: ForwardFn
    terms: tuple[Term, ...] = ()
    sources: tuple[tuple[str, Model], ...] = ()
    augmentations: tuple[Augmentation | Mixes, ...] = ()
    effective: Callable[[Params], Params] | None = None
    sharing: frozenset[str] = frozenset()
    averaging: Averages | None = None
    spatial: SpatialTargets = ()

    def __call__(
        self,
        params: Params,
        state: State,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        progress: Array,
        mode: Mode = "train",
        total: Array | None = None,
    ) -> tuple[Array, tuple[State, Mapping[str, Any]]]:
        """(scalar loss, (state after the pass, metrics)). The task's losses are divided by `total`,
        the sum of the batch's weights where None.

        Metrics hold `loss`, `task`, per divergence `divergence/<name>` unweighted and
        `divergence/<name>/weighted`, and `measure`, the head's summable measures."""
        seen = self.seen(
            Variables(params, state), batch, constants, rng=rng, progress=progress, mode=mode
        )
        forward, weight = seen.forward, seen.batch.weight
        total = jnp.maximum(jnp.sum(weight), 1) if total is None else total
        task = jnp.sum(forward.loss * weight) / total
        metrics: dict[str, Any] = {"task": task}
        loss = task
        for term in self.terms:
            value = term.value(seen.words[term.name])
            weight_now = constants.hyper["divergence"][term.name] * share(term.schedule, progress)
            weighted = weight_now * value
            metrics[f"divergence/{term.name}"] = value
            metrics[f"divergence/{term.name}/weighted"] = weighted
            loss = loss + weighted
        metrics["loss"] = loss
        if self.model.head is not None and forward.outputs is not None:
            with called(self.model.head, "head", "measure", {"batch": seen.batch}):
                measured = self.model.head.measure(forward.outputs, judged(seen.batch))
            metrics["measure"] = jax.lax.stop_gradient(measured)
        return loss, (forward.state, metrics)

    def seen(
        self,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        progress: Array,
        mode: Mode = "train",
    ) -> Seen:
        """One pass, and what every term is given of it."""
        for_values, for_forward, for_terms, for_domain = jax.random.split(rng, 4)
        batch = fetched(batch, constants.rows)
        if mode == "train":
            ports = self.model.ports
            batch = augmented(self.augmentations, batch, for_values, ports, self.spatial)
        if self.effective is not None:
            variables = variables._replace(params=self.effective(variables.params))
        forward = self.forward(
            self.model, variables, batch, constants,
            rng=for_forward, mode=mode, progress=progress,
        )  # fmt: skip
        words = {}
        for number, term in enumerate(self.terms):
            keys = (jax.random.fold_in(for_terms, number), for_domain)
            words[term.name] = self.words(
                term, variables, batch, constants, forward, keys, progress
            )
        return Seen(batch, forward, words)

    def updated(self, params: Params, state: State, progress: Array) -> State:
        """The state once a step has led to `params`."""
        if self.averaging is None:
            return state
        return self.averaging.after_update(params, state, progress=progress)

    def words(
        self,
        term: Term,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        forward: Forward,
        keys: tuple[Array, Array],
        progress: Array,
    ) -> dict[str, Any]:
        """The words of one term, given a forward pass of the batch. `keys`: one of its own, and
        one for the domain's pass, which is the same for all. XLA merges what two both ask for."""
        asks, (rng, for_domain), (params, state) = term.words, keys, variables
        own = f"divergence/{term.name}"
        have: dict[str, Any] = {
            "params": params["backbone"],
            "head_params": params.get("head"),
            "features": forward.features,
            "outputs": forward.outputs,
            "batch": batch,
            "own": params.get(own),
            "own_state": state.get(own),
            "prepared": constants.prepared.get(term.name),
            "recorded": _looked_up(constants.recorded.get(term.name), batch),
            "rng": rng,
            "progress": progress,
        }
        if asks & {"domain_features", "domain_outputs"}:
            assert batch.domain is not None
            have |= self._domain(variables, batch.domain, for_domain)
        if any(word.startswith("source_") for word in asks):
            model = dict(self.sources)[term.source]
            numbers, inputs = constants.sources[term.source], forward.inputs
            answer = partial(model.apply_head, numbers, inputs=inputs, rng=rng, mode="eval")
            have["source_params"] = numbers.params["backbone"]
            if asks & {"source_features", "source_outputs"}:
                # A pass that fed others than the batch's has no use for what is known of these.
                known = term.source in self.sharing and inputs is batch.inputs
                fed = batch._replace(inputs=inputs, frozen=batch.frozen if known else None)
                if fed.frozen is not None:
                    model = replace(model, frozen=self.model.frozen)
                features, _ = model.features(numbers, fed, rng=rng, mode="eval")
                have["source_features"] = jax.lax.stop_gradient(features)
            if "source_outputs" in asks:
                outputs, _ = answer(have["source_features"])
                have["source_outputs"] = jax.lax.stop_gradient(outputs)
            if "source_head_outputs" in asks:
                have["source_head_outputs"], _ = answer(forward.features)
        return {word: have[word] for word in asks}

    def _domain(self, variables: Variables, batch: Batch, rng: Array) -> dict[str, Any]:
        """A pass of its own, whose statistics are dropped: only labelled examples move them."""
        passed = self.model.apply(variables, batch, rng=rng, mode="train")
        return {"domain_features": passed.features, "domain_outputs": passed.outputs}


def _one_number(found: Any, term: Term) -> Array:
    """What a divergence returned, if it is one floating number with a gradient."""
    returns = partial(has_returned, f"The divergence {term.name!r}", term.divergence, found)
    wanted = "one number of jax"
    outside = isinstance(found, int | float | complex | np.ndarray | np.generic)
    advice = (
        "That was computed outside of jax and has no gradient: compute it with jax.numpy from the "
        "words that it asks for."
    )
    returns(isinstance(found, jax.Array), wanted, advice if outside else "")
    returns(found.shape == (), f"{wanted}, a scalar", "Return the mean of these numbers.")
    advice = "A count has no gradient: return something smooth that stands for it."
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        advice = "Return its real part or its modulus."
    returns(returned.is_floats(found), f"{wanted}, a floating one", advice)
    return found


def _looked_up(table: Mapping[str, PyTree] | None, batch: Batch) -> PyTree:
    """What was recorded of the examples of a batch."""
    if table is None:
        return None
    rows = jnp.searchsorted(table["index"], batch.index)
    return jax.tree.map(lambda leaf: leaf[rows], table["values"])


def augmented(
    augmentations: tuple[Augmentation | Mixes, ...],
    batch: Batch,
    rng: Array,
    ports: Ports,
    spatial: SpatialTargets = (),
) -> Batch:
    """The batch with every value changed that an augmentation is for, each by a key of its own;
    the values of an entry have the form that its input gives them for it. Targets that are
    `spatial` move with them, by the same keys."""
    if not augmentations:
        return batch
    changed = to_augment(augmentations, batch, ports)
    for number, change in enumerate(augmentations):
        key, entries = jax.random.fold_in(rng, number), entries_of(change, ports)
        if isinstance(change, Mixes):
            changed = mixed(change, changed, key, entries)
        else:
            keys = jax.random.split(key, len(batch.index))
            changed = _changed_entries(change, keys, changed, entries, spatial)
    if batch.domain is None:
        return changed
    key = jax.random.fold_in(rng, len(augmentations))
    return changed._replace(domain=augmented(augmentations, batch.domain, key, ports, spatial))


def altered(
    augmentations: tuple[Augmentation, ...],
    batch: Batch,
    keys: Callable[[int], Array],
    ports: Ports,
    spatial: SpatialTargets = (),
) -> Batch:
    """The batch changed by each augmentation in turn; `keys` gives those (B,) of the one with a
    number."""
    changed = to_augment(augmentations, batch, ports)
    for number, change in enumerate(augmentations):
        entries = entries_of(change, ports)
        changed = _changed_entries(change, keys(number), changed, entries, spatial)
    return changed


def entries_of(change: Augmentation | Mixes, ports: Ports) -> tuple[str, ...]:
    """The entries of a batch that an augmentation changes: those of its `kind`, images where it
    does not say one."""
    kind = getattr(change, "kind", "image")
    return tuple(dict.fromkeys(port.entry for port in ports if port.input.kind == kind))


def to_augment(
    augmentations: tuple[Augmentation | Mixes, ...], batch: Batch, ports: Ports
) -> Batch:
    """The batch with the entries that are going to be changed in the form that their inputs give
    them for it."""
    named = {entry for change in augmentations for entry in entries_of(change, ports)}
    for port in ports:
        if port.entry in named and isinstance(port.input, AugmentsValues):
            batch = with_entry(batch, port.entry, port.input.to_augment(batch.inputs[port.entry]))
            named.discard(port.entry)
    return batch


def _changed_entries(
    change: Augmentation,
    keys: Array,
    batch: Batch,
    entries: tuple[str, ...],
    spatial: SpatialTargets,
) -> Batch:
    if spatial and entries:
        size = batch.inputs[entries[0]].shape[1:3]
        batch = move_targets(change, keys, batch, spatial, size)
    for entry in entries:
        batch = with_entry(batch, entry, _changed(change, keys, batch.inputs[entry]))
    return batch


def _changed(change: Augmentation, keys: Array, values: Array) -> Array:
    """Values (B,...) after one augmentation. Raises ContractError where it fails, or gives
    anything but floats of the same shape."""
    who = f"The augmentation {type(change).__name__}"
    with calling(who, change):
        found = jax.vmap(change)(keys, values)
    fine = returned.is_floats(found) and found.shape == values.shape
    one, seen = (
        jax.ShapeDtypeStruct(of.shape[1:], of.dtype) if hasattr(of, "dtype") else of
        for of in (values, found)
    )
    wanted = f"floats like those that it was given, {described(one)}"
    has_returned(who, change, seen, fine, wanted)
    return found
