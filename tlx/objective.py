"""The objective: L_T(f) + lambda * D(f, f_S).

This is the only place that adds a task loss and weighted divergences. It hands every divergence
the words that it asks for, and computes no quantity that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.model import Model
from tlx.protocols import Augmentation, Divergence, ForwardFn
from tlx.quantities import asked
from tlx.types import Batch, Constants, Forward, Mode, Params, State


@final
@dataclass(frozen=True)
class Term:
    """One divergence of an objective: the name it is logged and weighted under, and the name of
    the source model it compares with."""

    name: str
    divergence: Divergence
    source: str = "source"

    @property
    def words(self) -> frozenset[str]:
        """What the divergence asks for."""
        return asked(self.divergence, self.name)


@final
@dataclass(frozen=True)
class Objective:
    """A function of the parameters: task loss plus weighted divergences of one batch.

    `sources` are (name, model) pairs; their numbers and all weights come with `Constants`.
    Augmentations apply to the training batch, before anybody sees it."""

    model: Model
    forward: ForwardFn
    terms: tuple[Term, ...] = ()
    sources: tuple[tuple[str, Model], ...] = ()
    augmentations: tuple[Augmentation, ...] = ()

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
    ) -> tuple[Array, tuple[State, Mapping[str, Any]]]:
        """(scalar loss, (state after the pass, metrics)).

        Metrics hold `loss`, `task`, per divergence `divergence/<name>` unweighted and
        `divergence/<name>/weighted`, and `measure`, the head's summable measures."""
        for_pictures, for_forward, for_terms = jax.random.split(rng, 3)
        if mode == "train":
            batch = augmented(self.augmentations, batch, for_pictures)
        forward = self.forward(
            self.model, params, state, batch, constants,
            rng=for_forward, mode=mode, progress=progress,
        )  # fmt: skip
        weight = batch["weight"]
        task = jnp.sum(forward.loss * weight) / jnp.maximum(jnp.sum(weight), 1)
        metrics: dict[str, Any] = {"task": task}
        loss = task
        for number, term in enumerate(self.terms):
            key = jax.random.fold_in(for_terms, number)
            words = self._words(term, params, state, batch, constants, forward, key, progress)
            value = term.divergence(**words)
            weighted = constants.hyper["divergence"][term.name] * value
            metrics[f"divergence/{term.name}"] = value
            metrics[f"divergence/{term.name}/weighted"] = weighted
            loss = loss + weighted
        metrics["loss"] = loss
        if self.model.head is not None and forward.outputs is not None:
            metrics["measure"] = jax.lax.stop_gradient(
                self.model.head.measure(forward.outputs, batch)
            )
        return loss, (forward.state, metrics)

    def _words(
        self,
        term: Term,
        params: Params,
        state: State,
        batch: Batch,
        constants: Constants,
        forward: Forward,
        rng: Array,
        progress: Array,
    ) -> dict[str, Any]:
        """The words of one term. XLA merges what two terms both ask for."""
        asks = term.words
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
            "recorded": constants.recorded.get(term.name),
            "rng": rng,
            "progress": progress,
        }
        if any(word.startswith("source_") for word in asks):
            model = dict(self.sources)[term.source]
            numbers = constants.sources[term.source]
            size = (forward.inputs.shape[1], forward.inputs.shape[2])
            have["source_params"] = numbers.params["backbone"]
            if asks & {"source_features", "source_outputs"}:
                features, _ = model.features(
                    numbers.params, numbers.state, forward.inputs, rng=rng, mode="eval"
                )
                have["source_features"] = jax.lax.stop_gradient(features)
            if "source_outputs" in asks:
                outputs, _ = model.answer(
                    numbers.params, numbers.state, have["source_features"],
                    size=size, rng=rng, mode="eval",
                )  # fmt: skip
                have["source_outputs"] = jax.lax.stop_gradient(outputs)
            if "source_head_outputs" in asks:
                have["source_head_outputs"], _ = model.answer(
                    numbers.params, numbers.state, forward.features,
                    size=size, rng=rng, mode="eval",
                )  # fmt: skip
        return {word: have[word] for word in asks}


def augmented(augmentations: tuple[Augmentation, ...], batch: Batch, rng: Array) -> Batch:
    """The batch with every picture changed, each by a key of its own; float 0..1."""
    if not augmentations:
        return batch
    image = batch["image"]
    image = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
    for number, change in enumerate(augmentations):
        keys = jax.random.split(jax.random.fold_in(rng, number), image.shape[0])
        image = jax.vmap(change)(keys, image)
    return {**batch, "image": image}
