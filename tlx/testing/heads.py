"""What every head must do.

A head is given features of the names that it needs, as vectors, maps or tokens, whichever it
takes first, and labels of whichever form its loss takes first: a class, a row of yes and no, real
numbers, a class per pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.protocols import Head
from tlx.testing.claims import (
    claim,
    claim_alike,
    claim_close,
    claim_finite,
    claim_leading,
    claim_plain,
    claim_same,
    claim_value,
    fail,
)
from tlx.testing.compiling import quick_jit
from tlx.testing.samples import VALUES
from tlx.types import Batch, Features, Mode, Variables

BATCH = 6
SIZE = (16, 16)
SHAPES = {"vector": (BATCH, 8), "map": (BATCH, 4, 4, 8), "tokens": (BATCH, 5, 8)}


@final
class Subject:
    """A head under test, with features, labels and outputs that fit it."""

    def __init__(self, make: Callable[[], Head], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Head:
        """The head."""
        return self.make()

    @cached_property
    def features(self) -> Features:
        """Features of one kind, under the names that it needs."""
        refusals = []
        for kind, shape in SHAPES.items():
            keys = jax.random.split(jax.random.key(0), len(self.thing.needs))
            features = {
                name: jax.random.normal(key, shape)
                for name, key in zip(self.thing.needs, keys, strict=True)
            }
            try:
                jax.eval_shape(self.thing.init, jax.random.key(1), features)
            except Exception as e:
                refusals.append(f"{kind}: {e}")
                continue
            return features
        fail(f"`init` takes neither vectors nor maps nor tokens. {' '.join(refusals)}")

    @cached_property
    def variables(self) -> Variables:
        """Its variables."""
        return self.thing.init(jax.random.key(1), self.features)

    def answer(self, mode: Mode, seed: int = 2) -> Any:
        """Outputs and state."""
        params, state = self.variables
        key = jax.random.key(seed)
        return self.thing.apply(params, state, self.features, size=SIZE, rng=key, mode=mode)

    @cached_property
    def outputs(self) -> Any:
        """Outputs that differ between examples."""
        outputs, _ = self.answer("eval")
        return jax.tree.map(lambda leaf: leaf + _noise(leaf.shape, 3, leaf.dtype), outputs)

    @cached_property
    def batch(self) -> Batch:
        """A batch with labels that its loss takes."""
        refusals = []
        for label in self._labels():
            batch = {
                "image": jnp.zeros((BATCH, *SIZE, 3)),
                "label": label,
                "index": jnp.arange(BATCH),
                "weight": jnp.ones(BATCH),
            }
            try:
                jax.eval_shape(self.thing.loss, self.outputs, batch)
            except Exception as e:
                refusals.append(f"{label.dtype}{label.shape}: {e}")
                continue
            return batch
        fail(f"`loss` takes none of these labels. {' '.join(refusals)}")

    def _labels(self) -> Iterator[jax.Array]:
        classes = int(VALUES["classes"])
        yield jnp.arange(BATCH) % classes
        for leaf in jax.tree.leaves(self.outputs):
            yield (_noise(leaf.shape, 4) > 0).astype(jnp.int32)
            yield _noise(leaf.shape, 4)
            yield jnp.arange(np.prod(leaf.shape[:-1])).reshape(leaf.shape[:-1]) % classes

    def totals(self, outputs: Any) -> Mapping[str, float]:
        """The report on one batch."""
        return self.thing.report(jax.device_get(self.thing.measure(outputs, self.batch)))


def _noise(shape: tuple[int, ...], seed: int, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def _rows(tree: Any, rows: slice | jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def check_value(subject: Subject) -> None:
    """Equal configuration, equal head."""
    claim_value(subject.make, "A head")


def check_needs(subject: Subject) -> None:
    """`needs` names at least one feature, each once."""
    needs = subject.thing.needs
    claim(
        isinstance(needs, tuple) and needs and len(set(needs)) == len(needs),
        f"`needs` must be a tuple of distinct feature names; it is {needs!r}.",
    )


def check_variables(subject: Subject) -> None:
    """`init` gives nested dicts of arrays, one path per leaf."""
    claim_plain(subject.variables.params, "The head's parameters")
    claim_plain(subject.variables.state, "The head's state")


def check_outputs(subject: Subject) -> None:
    """Outputs have the batch as leading axis; the state keeps its form."""
    for mode in ("train", "eval"):
        outputs, state = jax.eval_shape(lambda mode=mode: subject.answer(mode))
        claim_leading(outputs, BATCH, "The outputs")
        claim_alike(state, subject.variables.state, f"The head's state after mode {mode!r}")


def check_eval_is_still(subject: Subject) -> None:
    """Mode 'eval' draws no random number and keeps the state bit for bit."""
    outputs, state = subject.answer("eval", seed=2)
    others, _ = subject.answer("eval", seed=3)
    claim_same(others, outputs, "Outputs in mode 'eval' with two keys")
    claim_same(state, subject.variables.state, "The head's state after mode 'eval'")


def check_loss(subject: Subject) -> None:
    """`loss` gives one finite number per example."""
    loss = subject.thing.loss(subject.outputs, subject.batch)
    claim(
        loss.shape == (BATCH,) and jnp.issubdtype(loss.dtype, jnp.floating),
        f"`loss` must be one floating number per example, ({BATCH},); it is "
        f"{loss.dtype}{loss.shape}.",
    )
    claim_finite(loss, "The loss")


def check_loss_ignores_weight(subject: Subject) -> None:
    """The core applies `weight`; a head that did so too would count it twice."""
    weight = jnp.asarray([1.0, 2.0, 0.5, 3.0, 0.0, 0.0])
    loss = subject.thing.loss(subject.outputs, subject.batch)
    weighted = subject.thing.loss(subject.outputs, {**subject.batch, "weight": weight})
    claim_close(weighted, loss, "The loss with other weights")


def check_gradient(subject: Subject) -> None:
    """The loss moves the head's parameters: its gradient is finite and not zero everywhere."""
    state = subject.variables.state

    def loss(params: Any) -> jax.Array:
        key = jax.random.key(2)
        outputs, _ = subject.thing.apply(
            params, state, subject.features, size=SIZE, rng=key, mode="eval"
        )
        return jnp.sum(subject.thing.loss(outputs, subject.batch))

    slope = quick_jit(jax.grad(loss))(subject.variables.params)
    claim_finite(slope, "The gradient")
    moved = any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(slope))
    claim(moved or not slope, "The loss does not depend on any parameter of the head.")


def check_predict(subject: Subject) -> None:
    """`predict` answers for each example, whatever else is in the batch."""
    found = subject.thing.predict(subject.outputs)
    claim(isinstance(found, Mapping) and found, "`predict` must return a mapping with an answer.")
    claim_leading(dict(found), BATCH, "The prediction")
    claim_finite(dict(found), "The prediction")
    alone = subject.thing.predict(_rows(subject.outputs, slice(0, 2)))
    claim_close(dict(alone), _rows(dict(found), slice(0, 2)), "Predictions in a smaller batch")


def check_measure_adds_up(subject: Subject) -> None:
    """Measures of two parts add up to the measures of the whole."""
    measure, outputs, batch = subject.thing.measure, subject.outputs, subject.batch
    one, other = (measure(_rows(outputs, s), _rows(batch, s)) for s in (slice(0, 2), slice(2, 6)))
    claim_alike(dict(one), dict(other), "Measures of batches of two sizes")
    both = jax.tree.map(jnp.add, dict(one), dict(other))
    claim_close(both, dict(measure(outputs, batch)), "The sum of the measures of two parts")


def check_measure_skips_padding(subject: Subject) -> None:
    """Examples of weight 0 count for nothing."""
    measure, outputs = subject.thing.measure, subject.outputs
    weight = jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    other = jnp.asarray([0, 1, 2, 3, 1, 0])
    padded = {**subject.batch, "weight": weight}
    moved = {**_rows(padded, other), "weight": weight}
    claim_close(
        dict(measure(_rows(outputs, other), moved)),
        dict(measure(outputs, padded)),
        "Measures with other examples of weight 0",
    )
    kept = slice(0, 4)
    claim_close(
        dict(measure(outputs, padded)),
        dict(measure(_rows(outputs, kept), _rows(padded, kept))),
        "Measures with examples of weight 0",
    )


def check_report(subject: Subject) -> None:
    """`report` gives finite numbers and holds the metric that `selection` names."""
    name, direction = subject.thing.selection
    claim(direction in ("max", "min"), f"`selection` goes by {direction!r}, not 'max' or 'min'.")
    report = subject.totals(subject.outputs)
    claim(
        name in report,
        f"`selection` names {name!r}, which is not among the reported {sorted(report)}.",
    )
    for key, value in report.items():
        claim(
            isinstance(value, float | int) and np.isfinite(value),
            f"`report` must give finite floats; {key!r} is {value!r}.",
        )


def check_selection_direction(subject: Subject) -> None:
    """Outputs of a lower loss have no worse selected metric: 'max' and 'min' are not mixed up."""
    name, direction = subject.thing.selection

    def loss(outputs: Any) -> jax.Array:
        return jnp.sum(subject.thing.loss(outputs, subject.batch))

    @quick_jit
    def fitted(outputs: Any) -> Any:
        def down(_: Any, at: Any) -> Any:
            slope = jax.grad(loss)(at)
            length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope)))
            return jax.tree.map(lambda o, s: o - 0.1 * s / (length + 1e-3), at, slope)

        return jax.lax.fori_loop(0, 400, down, outputs)

    better = fitted(subject.outputs)
    claim(loss(better) < loss(subject.outputs), "Going down the gradient does not lower the loss.")
    before, after = subject.totals(subject.outputs)[name], subject.totals(better)[name]
    gain = after - before if direction == "max" else before - after
    claim(
        gain > -1e-6,
        f"`selection` goes by the {direction} of {name!r}, but when the loss falls it goes from "
        f"{before:.4g} to {after:.4g}.",
    )


def check_jit_equals_eager(subject: Subject) -> None:
    """Loss, prediction and measures run in jit, with the same numbers."""

    def every(outputs: Any, batch: Batch) -> Any:
        head = subject.thing
        return head.loss(outputs, batch), head.predict(outputs), head.measure(outputs, batch)

    eager = every(subject.outputs, subject.batch)
    compiled = quick_jit(every)(subject.outputs, subject.batch)
    claim_close(trees.flat(compiled), trees.flat(eager), "Under jit against eager")
