"""What every step must do, on an objective small enough to be worked out by hand.

A linear model with a squared error: `w` and `b` move, `still` is frozen, the state counts the
passes. The update rule is gradient descent with momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx import trees
from tlx.devices.not_finite import FACTOR, IN_A_ROW, TOTAL, counters
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.protocols import Divergence, Skips, Step, StepFn
from tlx.testing.claims import (
    claim,
    claim_alike,
    claim_close,
    claim_finite,
    claim_leading,
    claim_same,
    claim_value,
)
from tlx.testing.toys import ToyBackbone
from tlx.types import Batch, Constants, Forward, Mode, Params, State, TrainState, Variables

K, BATCH = 3, 4
TRAINABLE = {"backbone": {"w": True, "still": False}, "head": {"b": True}}


def pull(*, params: Params) -> jax.Array:
    """Half the squared length of `w`: a divergence with a gradient of its own."""
    return jnp.sum(params["w"] ** 2) / 2


@final
class Follower:
    """A strategy's state that follows the parameters: where `w` was after the last update."""

    def begin(self, params: Params, state: State) -> State:
        """Where it is."""
        return {**state, "strategy": {"w": params["backbone"]["w"]}}

    def after_update(self, params: Params, state: State, *, progress: jax.Array) -> State:
        """Where it has come to."""
        return self.begin(params, state)


@final
class Subject:
    """A step under test, built for a linear model."""

    def __init__(self, make: Callable[[], Step], folder: Path):
        self.make = make
        self.traced = 0
        model = Model(ToyBackbone(), None, ToyBackbone().inputs)
        term = Term("pull", cast("Divergence", pull))
        self.objective = Objective(model, self._forward, (term,), averaging=Follower())

    @cached_property
    def thing(self) -> Step:
        """The step."""
        return self.make()

    @cached_property
    def built(self) -> StepFn:
        """The step, built; compiled when first called with a number of batches."""
        return self.thing.build(self.objective, _momentum(), TRAINABLE, None)

    def start(self) -> TrainState:
        """A fresh state; made anew each time, because a step may take its memory."""
        rng = np.random.default_rng(0)
        params = {
            "backbone": {"w": _array(rng, 12, 3), "still": _array(rng, 3)},
            "head": {"b": _array(rng, 3)},
        }
        params = jax.tree.map(jnp.asarray, params)
        moving, _ = trees.partition(params, TRAINABLE)
        state = Follower().begin(params, {"backbone": {"passes": jnp.float32(0)}})
        state = jax.tree.map(jnp.copy, state)
        ledger = {"best": jnp.float32(0)}
        opt_state = _momentum().init(moving)
        return TrainState(jnp.int32(0), params, state, opt_state, jax.random.key(1), ledger)

    def constants(self, learning_rate: float = 0.01) -> Constants:
        """What a step reads."""
        hyper = {
            "learning_rate": jnp.float32(learning_rate),
            "weight_decay": jnp.float32(0),
            "steps": jnp.float32(10),
            "divergence": {"pull": jnp.float32(0.5)},
        }
        return Constants({}, {}, {}, hyper)

    def batches(self, count: int = K) -> Batch:
        """`count` stacked batches, the first of `K`."""
        rng = np.random.default_rng(1)
        batches = Batch(
            {"image": rng.uniform(size=(K, BATCH, 2, 2, 3)).astype(np.float32)},
            {"label": rng.normal(size=(K, BATCH, 3)).astype(np.float32)},
            np.arange(K * BATCH).reshape(K, BATCH),
            np.ones((K, BATCH), np.float32),
        )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[:count]), batches)

    def _forward(
        self,
        model: Model,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: jax.Array,
        mode: Mode,
        progress: jax.Array,
    ) -> Forward:
        self.traced += 1  # Python runs while tracing only: this counts compilations.
        x = batch.inputs["image"].reshape(batch.inputs["image"].shape[0], -1)
        (params, state), body = variables, variables.params["backbone"]
        outputs = x @ body["w"] + params["head"]["b"] + body["still"]
        loss = jnp.sum((outputs - batch.targets["label"]) ** 2, axis=1)
        after = {**state, "backbone": {"passes": state["backbone"]["passes"] + 1}}
        return Forward(loss, batch.inputs, {}, None, after)


def _array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def _momentum() -> optax.GradientTransformationExtraArgs:
    def update(
        updates: Any, state: Any, params: Any = None, *, hyper: Any, step: Any, **_: Any
    ) -> tuple[Any, Any]:
        speed = jax.tree.map(lambda v, g: 0.9 * v + g, state, updates)
        return jax.tree.map(lambda v: -hyper["learning_rate"] * v, speed), speed

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    return optax.GradientTransformationExtraArgs(init, cast(Any, update))


def _same_state(state: TrainState) -> Any:
    """The state with its key as numbers."""
    return state._replace(rng=jax.random.key_data(state.rng))


def check_value(subject: Subject) -> None:
    """Equal configuration, equal step."""
    claim_value(subject.make, "A step")


def check_state(subject: Subject) -> None:
    """The state keeps its form, and `step` counts the batches."""
    after, _ = subject.built(subject.start(), subject.constants(), subject.batches())
    claim_alike(_same_state(after), _same_state(subject.start()), "The state after a call")
    claim(
        int(after.step) == K,
        f"After {K} stacked batches `step` must have gone from 0 to {K}; it is {int(after.step)}.",
    )
    passes = float(after.state["backbone"]["passes"])
    claim(passes == K, f"The state that the pass returned is lost: {passes:g} of {K} passes count.")


def check_averages(subject: Subject) -> None:
    """What follows the parameters is told of every update (`Objective.updated`)."""
    after, _ = subject.built(subject.start(), subject.constants(), subject.batches())
    wanted = after.params["backbone"]["w"]
    claim_same(after.state["strategy"]["w"], wanted, "The average, which is to be the last `w`")


def check_metrics(subject: Subject) -> None:
    """The metrics of the objective come back, one finite number per batch."""
    _, metrics = subject.built(subject.start(), subject.constants(), subject.batches())
    wanted = {"loss", "task", "divergence/pull", "divergence/pull/weighted"}
    claim(
        wanted <= set(metrics),
        f"The metrics {sorted(wanted - set(metrics))} of the objective are lost.",
    )
    claim_leading(dict(metrics), K, f"The metrics of {K} stacked batches")
    claim_finite(dict(metrics), "The metrics")


def check_update(subject: Subject) -> None:
    """One step moves by minus the learning rate times the gradient of the objective."""
    start, constants = subject.start(), subject.constants()
    batch = jax.tree.map(lambda leaf: leaf[0], subject.batches(1))
    key, progress = jax.random.key(1), jnp.float32(0)

    def loss(params: Params) -> jax.Array:
        return subject.objective(params, start.state, batch, constants, rng=key, progress=progress)[
            0
        ]

    slope = jax.grad(loss)(start.params)
    rate = constants.hyper["learning_rate"]
    wanted = jax.tree.map(
        lambda p, g, moves: p - rate * g if moves else p, start.params, slope, TRAINABLE
    )
    after, _ = subject.built(subject.start(), constants, subject.batches(1))
    seen, wanted = trees.partition(after.params, TRAINABLE), trees.partition(wanted, TRAINABLE)
    claim_close(seen[0], wanted[0], "The parameters after one step", tolerance=1e-5)


def check_frozen(subject: Subject) -> None:
    """Frozen leaves come back bit for bit."""
    after, _ = subject.built(subject.start(), subject.constants(), subject.batches())
    seen, wanted = (
        trees.partition(state.params, TRAINABLE)[1] for state in (after, subject.start())
    )
    claim_same(seen, wanted, "The frozen parameters after a call")


def check_stacked_equals_calls(subject: Subject) -> None:
    """K stacked batches do what K calls with one batch do."""
    batches = subject.batches()
    together, _ = subject.built(subject.start(), subject.constants(), batches)
    state = subject.start()
    for number in range(K):
        one = jax.tree.map(lambda leaf, at=number: leaf[at : at + 1], batches)
        state, _ = subject.built(state, subject.constants(), one)
    claim_close(
        (together.params, together.opt_state, together.state),
        (state.params, state.opt_state, state.state),
        f"After {K} stacked batches, against {K} calls",
        tolerance=1e-5,
    )


def check_same_twice(subject: Subject) -> None:
    """The same state and batches give the same bits."""
    one, other = (
        subject.built(subject.start(), subject.constants(), subject.batches())[0] for _ in range(2)
    )
    claim_same(_same_state(one), _same_state(other), "The state after the same call twice")


def check_skips(subject: Subject) -> None:
    """Where it says `skips` and the ledger asks: an update that is not finite leaves nothing but
    its count and a lower learning rate."""
    if not isinstance(subject.thing, Skips) or not subject.thing.skips:
        return
    start = subject.start()
    start = start._replace(ledger={**start.ledger, **counters("reduce_lr")})
    wanted = jax.tree.map(jnp.copy, (start.params, start.state, start.opt_state))
    batches = subject.batches(1)
    batches = batches._replace(inputs={"image": batches.inputs["image"] * jnp.nan})
    after, _ = subject.built(start, subject.constants(), batches)
    seen = after.params, after.state, after.opt_state
    claim_same(seen, wanted, "What an update that is not finite left")
    counts = {name: float(after.ledger[name]) for name in counters("reduce_lr")}
    claim(
        counts == {TOTAL: 1, IN_A_ROW: 1, FACTOR: 0.5} and int(after.step) == 1,
        f"After one update that is left out the ledger holds {counts} and `step` is "
        f"{int(after.step)}; see `tlx.devices.not_finite.guarded`.",
    )
    before = np.asarray(after.params["head"]["b"])
    plain, _ = subject.built(subject.start(), subject.constants(), subject.batches(1))
    after, _ = subject.built(after, subject.constants(), subject.batches(1))
    moved = [np.asarray(state.params["head"]["b"]) - before for state in (plain, after)]
    claim_close(2 * moved[1], moved[0], "Twice the next update, at half the learning rate", 1e-4)


def check_learning_rate_is_traced(subject: Subject) -> None:
    """Another learning rate acts, and compiles nothing again."""
    first, _ = subject.built(subject.start(), subject.constants(0.01), subject.batches(1))
    before = subject.traced
    second, _ = subject.built(subject.start(), subject.constants(0.02), subject.batches(1))
    claim(
        subject.traced == before,
        "Another learning rate compiled the step again; `Constants` are arguments of the compiled "
        "function, not numbers inside of it.",
    )
    start = subject.start().params["head"]["b"]
    one, two = (np.asarray(state.params["head"]["b"] - start) for state in (first, second))
    claim_close(two, 2 * one, "The first update at twice the learning rate", tolerance=1e-3)


def check_compiles_ahead(subject: Subject) -> None:
    """`lower` compiles the step before its first call, so that compiling can be timed."""
    constants, batches = subject.constants(), subject.batches(1)
    lower = getattr(subject.built, "lower", None)
    claim(lower, "A built step must have `lower`, as what `jax.jit` returns has.")
    compiled = subject.built.lower(subject.start(), constants, batches).compile()
    ahead, _ = compiled(subject.start(), constants, batches)
    plain, _ = subject.built(subject.start(), subject.constants(), batches)
    claim_close(ahead.params, plain.params, "The step compiled ahead, against the step", 1e-5)


def check_constants_survive(subject: Subject) -> None:
    """A step may take the memory of the state, never that of the constants."""
    constants = subject.constants()
    subject.built(subject.start(), constants, subject.batches(1))
    gone = [path for path, leaf in trees.flat(constants).items() if leaf.is_deleted()]
    claim(not gone, f"The memory of the constants {gone} was given away; the next call needs it.")
