"""What every head must do.

A head is given features of the names that it needs, as vectors, maps or tokens, whichever it
takes first, and labels of whichever form its loss takes first: a class, a row of yes and no, real
numbers, a class per pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx.protocols import Head
from tlx.testing.claims import (
    claim,
    claim_alike,
    claim_close,
    claim_finite,
    claim_leading,
    claim_moves,
    claim_plain,
    claim_same,
    claim_value,
)
from tlx.testing.compiling import quick_jit
from tlx.testing.labels import BATCH, INPUTS, batch_for, features_for, noise
from tlx.types import Batch, Features, Mode, Variables


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
        return features_for(self.thing)

    @cached_property
    def variables(self) -> Variables:
        """Its variables."""
        return quick_jit(self.thing.init)(jax.random.key(1), self.features)

    @cached_property
    def jitted(self) -> Any:
        """`apply` compiled, once per mode."""
        return quick_jit(self.thing.apply, static_argnames="mode")

    def shapes(self, mode: Mode) -> Any:
        """Outputs and state as abstract arrays."""
        key = jax.random.key(2)

        def apply(params: Any, state: Any, features: Features) -> Any:
            return self.thing.apply(params, state, features, inputs=INPUTS, rng=key, mode=mode)

        return jax.eval_shape(apply, *self.variables, self.features)

    def answer(self, mode: Mode, seed: int = 2) -> Any:
        """Outputs and state."""
        key = jax.random.key(seed)
        return self.jitted(*self.variables, self.features, inputs=INPUTS, rng=key, mode=mode)

    @cached_property
    def outputs(self) -> Any:
        """Outputs that differ between examples."""
        outputs, _ = self.answer("eval")
        return jax.tree.map(lambda leaf: np.asarray(leaf) + noise(leaf.shape, 9), outputs)

    @cached_property
    def batch(self) -> Batch:
        """A batch with labels that its loss takes."""
        return batch_for(self.thing, self.outputs)

    @cached_property
    def judged(self) -> Any:
        """Outputs and batch -> loss, predictions and measures as a dict, compiled."""
        return quick_jit(self.judge)

    def judge(self, outputs: Any, batch: Batch) -> dict[str, Any]:
        """Loss, predictions and measures."""
        head = self.thing
        return {
            "loss": head.loss(outputs, batch),
            "predict": dict(head.predict(outputs)),
            "measure": dict(head.measure(outputs, batch)),
        }

    @cached_property
    def whole(self) -> dict[str, Any]:
        """Loss, predictions and measures of the batch."""
        return self.judged(self.outputs, self.batch)

    def totals(self, judged: Mapping[str, Any]) -> Mapping[str, float]:
        """The report on what was measured."""
        return self.thing.report(jax.device_get(judged["measure"]))


def _rows(tree: Any, rows: slice | list[int]) -> Any:
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
    modes: tuple[Mode, ...] = ("train", "tune", "eval")
    for mode in modes:
        outputs, state = subject.shapes(mode)
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
    loss = subject.whole["loss"]
    claim(
        loss.shape == (BATCH,) and jnp.issubdtype(loss.dtype, jnp.floating),
        f"`loss` must be one floating number per example, ({BATCH},); it is "
        f"{loss.dtype}{loss.shape}.",
    )
    claim_finite(loss, "The loss")


def check_loss_ignores_weight(subject: Subject) -> None:
    """The core applies `weight`; a head that did so too would count it twice."""
    weight = np.asarray([1.0, 2.0, 0.5, 3.0, 0.0, 0.0], np.float32)
    weighted = subject.judged(subject.outputs, subject.batch._replace(weight=weight))
    claim_close(weighted["loss"], subject.whole["loss"], "The loss with other weights")


def check_gradient(subject: Subject) -> None:
    """The loss moves the head's parameters: its gradient is finite and not zero everywhere."""
    state = subject.variables.state

    def loss(params: Any) -> jax.Array:
        key = jax.random.key(2)
        outputs, _ = subject.thing.apply(
            params, state, subject.features, inputs=INPUTS, rng=key, mode="eval"
        )
        return jnp.sum(subject.thing.loss(outputs, subject.batch))

    slope = quick_jit(jax.grad(loss))(subject.variables.params)
    claim_finite(slope, "The gradient")
    if slope:
        claim_moves(slope, "The loss does not depend on any parameter of the head.")


def check_predict(subject: Subject) -> None:
    """`predict` answers for each example, whatever else is in the batch."""
    found = subject.whole["predict"]
    claim(found, "`predict` must return a mapping with at least one answer.")
    claim_leading(found, BATCH, "The prediction")
    claim_finite(found, "The prediction")
    half = slice(0, 3)
    alone = subject.judged(_rows(subject.outputs, half), _rows(subject.batch, half))["predict"]
    claim_close(alone, _rows(found, half), "Predictions in a smaller batch")


def check_measure_adds_up(subject: Subject) -> None:
    """Measures of two parts add up to the measures of the whole."""
    one, other = (
        subject.judged(_rows(subject.outputs, part), _rows(subject.batch, part))["measure"]
        for part in (slice(0, 3), slice(3, 6))
    )
    claim_alike(one, subject.whole["measure"], "Measures of a batch of another size")
    both = jax.tree.map(lambda a, b: np.asarray(a) + np.asarray(b), one, other)
    claim_close(both, subject.whole["measure"], "The sum of the measures of two parts")


def check_measure_skips_padding(subject: Subject) -> None:
    """Examples of weight 0 count for nothing."""
    weight = np.asarray([1, 1, 1, 0, 0, 0], np.float32)
    padded = subject.batch._replace(weight=weight)
    other = [0, 1, 2, 1, 0, 1]
    moved = _rows(padded, other)._replace(weight=weight)
    one = subject.judged(subject.outputs, padded)["measure"]
    two = subject.judged(_rows(subject.outputs, other), moved)["measure"]
    claim_close(two, one, "Measures with other examples of weight 0")
    kept = slice(0, 3)
    alone = subject.judged(_rows(subject.outputs, kept), _rows(padded, kept))["measure"]
    claim_close(one, alone, "Measures with examples of weight 0 against those without them")


def check_report(subject: Subject) -> None:
    """`report` gives finite numbers and holds the metric that `selection` names."""
    name, direction = subject.thing.selection
    claim(direction in ("max", "min"), f"`selection` goes by {direction!r}, not 'max' or 'min'.")
    report = subject.totals(subject.whole)
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

    better = subject.judged(fitted(subject.outputs), subject.batch)
    claim(
        better["loss"].sum() < subject.whole["loss"].sum(),
        "Going down the gradient of the loss does not lower it.",
    )
    before, after = subject.totals(subject.whole)[name], subject.totals(better)[name]
    gain = after - before if direction == "max" else before - after
    claim(
        gain > -1e-6,
        f"`selection` goes by the {direction} of {name!r}, but when the loss falls it goes from "
        f"{before:.4g} to {after:.4g}.",
    )


def check_jit_equals_eager(subject: Subject) -> None:
    """Loss, predictions and measures are the same without jit."""
    eager = subject.judge(subject.outputs, subject.batch)
    claim_close(subject.whole, eager, "Under jit against eager")
