"""What every divergence must do.

Only what holds for all of them: it asks for known words, gives one finite floating number, the
same again for the same words, with a finite gradient, and it runs in jit and beside a traced
weight. What a divergence means (zero at the source, a closed form) is for its own tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.objective import Term
from tlx.planning.records import needs
from tlx.protocols import Divergence, Learns, Prepares, Records, WholeBatch
from tlx.quantities import PER_EXAMPLE, asked
from tlx.testing.claims import (
    NotApplicable,
    claim,
    claim_close,
    claim_finite,
    claim_leading,
    claim_moves,
    claim_plain,
    claim_same,
    claim_value,
)
from tlx.testing.compiling import quick_jit
from tlx.testing.world import BATCH, inverted, world
from tlx.types import Batch, Network

MOVING = (
    "params",
    "head_params",
    "features",
    "outputs",
    "source_head_outputs",
    "domain_features",
    "domain_outputs",
    "own",
)
"""The words through which a gradient reaches what is trained."""
OF_EXAMPLES = (PER_EXAMPLE - {"prepared"}) | {"recorded", "domain_features", "domain_outputs"}
"""The words that have an entry for each example."""


@final
class Subject:
    """A divergence under test, with a value for each word that it asks for."""

    def __init__(self, make: Callable[[], Divergence], folder: Path):
        self.make = make
        self.here = world()

    @cached_property
    def thing(self) -> Divergence:
        """The divergence."""
        return self.make()

    @cached_property
    def other(self) -> Network | None:
        """The source, if it asks for any word of it."""
        asks = needs(Term("the divergence", self.thing))
        return Network(self.here.model, self.here.source) if _compares(asks) else None

    @cached_property
    def own(self) -> Any:
        """Its own parameters and state."""
        if not isinstance(self.thing, Learns):
            raise NotApplicable("It has no parameters of its own.")
        return self.thing.init(
            model=self.here.model,
            source=self.other,
            batch=self.here.batch,
            rng=jax.random.key(7),
        )

    @cached_property
    def prepared(self) -> Any:
        """What it prepares."""
        if not isinstance(self.thing, Prepares):
            raise NotApplicable("It prepares nothing.")
        return self.thing.prepare(
            model=self.here.model,
            variables=self.here.variables,
            source=self.other,
            batches=[self.here.batch],
            rng=jax.random.key(8),
        )

    @cached_property
    def recorded(self) -> Any:
        """What it records of the examples of the batch."""
        if not isinstance(self.thing, Records):
            raise NotApplicable("It records nothing.")
        record = self.thing.record
        words = {word: self.everything[word]() for word in asked(record, "record")}
        return quick_jit(lambda words: record(**words))(words)

    @cached_property
    def words(self) -> dict[str, Any]:
        """The words that it asks for."""
        return {word: self.everything[word]() for word in asked(self.thing)}

    @cached_property
    def everything(self) -> dict[str, Callable[[], Any]]:
        """A value for every word there is."""
        model, variables, source, batch = self.here
        key = jax.random.key(3)

        @quick_jit
        def seen(numbers: Any, other: Any, batch: Batch) -> Any:
            features, _ = model.features(numbers, batch, rng=key, mode="eval")
            now, then = (
                model.apply_head(heads, features, inputs=batch.inputs, rng=key, mode="eval")[0]
                for heads in (numbers, other)
            )
            return features, now, then

        features, outputs, crossed = seen(variables, source, batch)
        before, answers, _ = seen(source, source, batch)
        domain, elsewhere, _ = seen(variables, source, inverted(batch))
        return {
            "params": lambda: variables.params["backbone"],
            "head_params": lambda: variables.params["head"],
            "features": lambda: features,
            "outputs": lambda: outputs,
            "batch": lambda: batch,
            "source_params": lambda: source.params["backbone"],
            "source_features": lambda: before,
            "source_outputs": lambda: answers,
            "source_head_outputs": lambda: crossed,
            "domain_features": lambda: domain,
            "domain_outputs": lambda: elsewhere,
            "own": lambda: self.own.params,
            "own_state": lambda: self.own.state,
            "prepared": lambda: self.prepared,
            "recorded": lambda: self.recorded,
            "rng": lambda: key,
            "progress": lambda: jnp.float32(0.5),
        }

    @cached_property
    def jitted(self) -> Any:
        """The divergence of a mapping of words, compiled."""
        return quick_jit(lambda words: self.thing(**words))

    @cached_property
    def value(self) -> jax.Array:
        """The divergence of its words."""
        return self.jitted(self.words)


def check_value(subject: Subject) -> None:
    """Equal configuration, equal divergence."""
    claim_value(subject.make, "A divergence")


def check_words(subject: Subject) -> None:
    """Every parameter is a word of `tlx.quantities`, without a default; it asks for something."""
    words = asked(subject.thing)
    claim(words, "A divergence asks for at least one word; this one would be a constant.")
    claim(
        not {"own", "own_state"} & words or isinstance(subject.thing, Learns),
        "It asks for `own`, so it needs a method `init` that makes it (the contract Learns).",
    )
    claim(
        "prepared" not in words or isinstance(subject.thing, Prepares),
        "It asks for `prepared`, so it needs a method `prepare` (the contract Prepares).",
    )
    claim(
        "recorded" not in words or isinstance(subject.thing, Records),
        "It asks for `recorded`, so it needs a method `record` (the contract Records).",
    )
    if isinstance(subject.thing, Records):
        extra = asked(subject.thing.record, "record") - PER_EXAMPLE
        claim(
            not extra,
            f"`record` asks for {sorted(extra)}, which belong to no single example; it may ask for "
            f"{sorted(PER_EXAMPLE)}.",
        )


def check_scalar(subject: Subject) -> None:
    """One floating number."""
    value = jax.eval_shape(lambda words: subject.thing(**words), subject.words)
    claim(
        value.shape == () and jnp.issubdtype(value.dtype, jnp.floating),
        f"A divergence is one floating number; this one is {value.dtype}{value.shape}.",
    )


def check_finite(subject: Subject) -> None:
    """A finite number for ordinary words."""
    claim_finite(subject.value, "The divergence")


def check_deterministic(subject: Subject) -> None:
    """The same words give the same number; compiled afresh, too, so that no number hides that was
    drawn while tracing."""
    again = quick_jit(lambda words: subject.thing(**words))(subject.words)
    claim_same(subject.jitted(subject.words), subject.value, "The divergence of the same words")
    claim_same(again, subject.value, "The divergence of the same words, compiled again")


def check_gradient(subject: Subject) -> None:
    """Its gradient is finite, also where the model is the source itself, and somewhere not zero."""
    words = subject.words
    moving = {word: words[word] for word in MOVING if word in words}
    claim(moving, f"Nothing that it asks for is trained: {sorted(words)}.")

    def value(moving: Any) -> jax.Array:
        return jnp.sum(subject.thing(**{**words, **moving}))

    slope = quick_jit(jax.grad(value, allow_int=True))
    claim_finite(slope(moving), "The gradient")
    start = {
        word: words.get(f"source_{word}", value) for word, value in moving.items() if word != "own"
    }
    claim_finite(slope({**moving, **start}), "The gradient at the source")
    sentence = f"It does not depend on any of {sorted(moving)}: its gradient is zero."
    claim_moves(slope(moving), sentence)


def check_jit_equals_eager(subject: Subject) -> None:
    """The same number in jit."""
    eager = subject.thing(**subject.words)
    claim_close(subject.value, eager, "The divergence under jit against eager")


def check_vmap(subject: Subject) -> None:
    """A grid of runs goes under one `vmap`: several weights and several models at once."""
    words, weights = subject.words, np.asarray([1.0, 2.0], np.float32)
    moving = {word: words[word] for word in MOVING if word in words}
    models = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * np.asarray(leaf)]), moving)

    def weighted(weight: Any, moving: Any) -> jax.Array:
        return weight * jnp.sum(subject.thing(**{**words, **moving}))

    grid = quick_jit(jax.vmap(weighted))(weights, models)
    first = np.sum(np.asarray(subject.value))
    claim_close(grid[0], first, "The first of a grid of runs under vmap")
    second = {**words, **jax.tree.map(lambda leaf: leaf[1], models)}
    claim_close(grid[1], 2 * np.sum(subject.jitted(second)), "The second run of a grid under vmap")


def check_adds_up(subject: Subject) -> None:
    """The mean over two halves of a batch is the value of the whole, or it says why not, so that a
    step knows whether it may compute a batch in parts (the contract WholeBatch)."""
    thing, words, half = subject.thing, subject.words, BATCH // 2
    why = thing.whole_batch if isinstance(thing, WholeBatch) else ""

    def part(rows: slice) -> Any:
        return {
            word: jax.tree.map(lambda leaf: leaf[rows] if len(leaf) == BATCH else leaf, value)
            if word in OF_EXAMPLES
            else value
            for word, value in words.items()
        }

    try:
        halves = [subject.jitted(part(rows)) for rows in (slice(half), slice(half, None))]
    except TlxError:  # too few examples
        halves = [np.inf]
    whole, mean = float(np.sum(subject.value)), float(np.sum(halves)) / len(halves)
    adds_up = np.allclose(mean, whole, rtol=1e-3, atol=1e-12, equal_nan=True)
    claim(
        adds_up or why,
        f"Its mean over two halves of a batch is {mean:.6g}, and {whole:.6g} over the whole. Make "
        f"it a mean per example, or say in `whole_batch` why it is none.",
    )
    claim(
        not (adds_up and why),
        "It has a `whole_batch`, and its mean over two halves of a batch is the value of the "
        "whole: leave it out, so that a batch may be computed in parts.",
    )


def check_own(subject: Subject) -> None:
    """Its own parameters, if it has any, are nested dicts of arrays."""
    claim_plain(subject.own.params, "The divergence's own parameters")
    claim_plain(subject.own.state, "The divergence's own state")


def check_prepared(subject: Subject) -> None:
    """What it prepares, if anything, is nested dicts of arrays, so that it can be saved."""
    claim_plain(subject.prepared, "What the divergence prepares")


def check_recorded(subject: Subject) -> None:
    """What it records, if anything, is an entry for every example."""
    claim_plain(subject.recorded, "What the divergence records")
    claim_leading(subject.recorded, BATCH, "What the divergence records")


def _compares(words: frozenset[str]) -> bool:
    return any(word.startswith("source_") for word in words)
