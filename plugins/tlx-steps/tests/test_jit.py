"""The jitted step: closed forms, frozen leaves, traced hyperparameters, donated memory."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import ImageInput

from tlx import trees
from tlx.config import OptimizerConfig
from tlx.devices.not_finite import FACTOR, IN_A_ROW, TOTAL, counters
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.protocols import Phase
from tlx.registry import build
from tlx.types import Batch, Constants, FeatureSpec, Forward, LeafInfo, TrainState, Variables


@dataclass(frozen=True)
class Linear:
    """X @ beta + offset, X the pixels of a (1,P,3) picture; `beta` and `offset` are two stages."""

    inputs: ImageInput = field(default_factory=ImageInput)
    features: tuple[FeatureSpec, ...] = (FeatureSpec("y", "vector", 1),)
    modes: frozenset[str] = frozenset({"train", "tune", "eval"})
    stages: tuple[str, ...] = ("beta", "offset")

    def leaf(self, path):
        return LeafInfo(path, "kernel")

    def init(self, rng, x):
        size = x[0].size
        return Variables({"beta": jnp.zeros((size, 1)), "offset": jnp.zeros(1)}, {})

    def apply(self, params, state, x, *, rng, mode):
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=2, rng=rng, mode=mode
        )
        return features, state

    def apply_stages(self, params, state, carry, *, start, stop, rng, mode):
        if start == 0:
            carry = carry.reshape(carry.shape[0], -1) @ params["beta"]
        if stop < 2:
            return carry, {}, state
        carry = carry + params["offset"]
        return carry, {"y": carry}, state


def squared(model, variables, batch, constants, *, rng, mode, progress):
    features, body = model.features(variables, batch, rng=rng, mode=mode)
    loss = (features["y"][:, 0] - batch.targets["label"]) ** 2
    return Forward(loss, batch.inputs, features, None, {**variables.state, "backbone": body})


@dataclass(frozen=True)
class Fixed:
    phase: Phase

    def init(self, rng, model, batch):
        return Variables({}, {})

    def phases(self, model, steps):
        return (replace(self.phase, steps=steps),)


@pytest.fixture(scope="module")
def problem():
    """More unknowns than a closed form needs, fewer than examples; a source beside the truth."""
    rng = np.random.default_rng(0)
    x = rng.random((40, 1, 2, 3)).astype(np.float32)
    y = (x.reshape(40, 6) @ rng.normal(size=6) + 0.3).astype(np.float32)
    source = rng.normal(size=(6, 1)).astype(np.float32)
    return x, y, source


def machine(problem, *, terms=(), weight=0.0, frozen=(), config=None, steps=3000):
    x, y, source = problem
    backbone = Linear()
    model = Model(backbone, None, backbone.inputs)
    inputs, targets = {"image": jnp.asarray(x)}, {"label": jnp.asarray(y)}
    batch = Batch(inputs, targets, jnp.arange(40), jnp.ones(40))
    variables = model.init(jax.random.key(0), batch)
    start = {"backbone": {"beta": jnp.asarray(source), "offset": jnp.zeros(1)}}

    def group(path):
        return "frozen" if path.rpartition("/")[2] in frozen else "backbone"

    phase = Phase(name="p", steps=1, group=group, forward=squared)
    (planned,) = plan(Fixed(phase), model, start, steps)
    config = config or OptimizerConfig(
        name="sgd", momentum=0.9, schedule="constant", learning_rate=0.05
    )
    tx = transform(config, start=0, steps=steps, multipliers=planned.multipliers)
    objective = Objective(planned.model, squared, terms, (("source", model),))
    step = build("steps", "jit").build(objective, tx, planned.trainable, None)
    moving, _ = trees.partition(start, planned.trainable)
    copied = jax.tree.map(jnp.copy, start)
    state = TrainState(
        jnp.int32(0), copied, variables.state, tx.init(moving), jax.random.key(1), {}
    )
    hyper = {
        "learning_rate": jnp.float32(config.learning_rate),
        "weight_decay": jnp.float32(config.weight_decay),
        "divergence": {term.name: jnp.float32(weight) for term in terms},
        "steps": jnp.float32(steps),
    }
    sources = {"source": Variables(start, variables.state)}
    return step, state, Constants(sources, {}, {}, hyper), batch


def stacked(batch, k=1):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * k), batch)


def test_l2_sp_reaches_the_closed_form(problem):
    """argmin mean (X b + c - y)^2 + weight/2 (|b - b_source|^2 + |c|^2), solved in float64."""
    x, y, source = problem
    weight = 0.1
    term = Term("l2_sp", build("divergences", "l2_sp"))
    step, state, constants, batch = machine(problem, terms=(term,), weight=weight)
    for _ in range(3000):
        state, metrics = step(state, constants, stacked(batch))
    design = np.concatenate([x.reshape(40, 6), np.ones((40, 1))], 1).astype(np.float64)
    prior = np.concatenate([source[:, 0], [0.0]]).astype(np.float64)
    left = 2 / 40 * design.T @ design + weight * np.eye(7)
    exact = np.linalg.solve(left, 2 / 40 * design.T @ y + weight * prior)
    found = np.concatenate(
        [state.params["backbone"]["beta"][:, 0], state.params["backbone"]["offset"]]
    )
    np.testing.assert_allclose(found, exact, atol=1e-5)
    away = np.sum((exact - prior) ** 2) / 2
    np.testing.assert_allclose(metrics["divergence/l2_sp"][0], away, rtol=1e-4)
    np.testing.assert_allclose(metrics["divergence/l2_sp/weighted"][0], weight * away, rtol=1e-4)


def test_several_stacked_batches_are_several_calls(problem):
    step, one, constants, batch = machine(problem)
    _, several, _, _ = machine(problem)
    losses = []
    for _ in range(3):
        one, metrics = step(one, constants, stacked(batch))
        losses.append(metrics["loss"][0])
    several, metrics = step(several, constants, stacked(batch, 3))
    assert int(several.step) == int(one.step) == 3
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(several.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_frozen_leaves_have_no_gradient_and_no_optimizer_state(problem):
    config = OptimizerConfig(name="adamw", weight_decay=0.5, schedule="constant")
    step, state, constants, batch = machine(problem, frozen=("beta",), config=config)
    assert {leaf.size for leaf in jax.tree.leaves(state.opt_state)} == {1}
    before = np.asarray(state.params["backbone"]["beta"])
    for _ in range(5):
        state, _ = step(state, constants, stacked(batch))
    assert np.asarray(state.params["backbone"]["beta"]).tobytes() == before.tobytes()
    assert float(state.params["backbone"]["offset"][0]) != 0


def test_hyperparameters_are_traced(problem):
    """Another learning rate runs the program that is compiled already, and matters."""
    step, state, constants, batch = machine(problem)
    _, other, _, _ = machine(problem)
    compiled = step.lower(state, constants, stacked(batch)).compile()
    faster = constants._replace(hyper={**constants.hyper, "learning_rate": jnp.float32(0.5)})
    slow, _ = compiled(state, constants, stacked(batch))
    fast, _ = compiled(other, faster, stacked(batch))
    start = problem[2]
    moved = [np.abs(s.params["backbone"]["beta"] - start).max() for s in (slow, fast)]
    assert moved[1] == pytest.approx(10 * moved[0], rel=1e-3)


def test_the_old_state_is_donated(problem):
    step, state, constants, batch = machine(problem)
    step(state, constants, stacked(batch))
    assert state.params["backbone"]["beta"].is_deleted()


def begun(problem, policy):
    step, state, constants, batch = machine(problem)
    return step, state._replace(ledger=counters(policy)), constants, batch


def spoilt(batch):
    return batch._replace(inputs={"image": batch.inputs["image"].at[3, 0, 1].set(jnp.nan)})


def in_a_row(*batches):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)


def numbers(state):
    kept = {"params": state.params, "state": state.state, "opt_state": state.opt_state}
    return {path: np.asarray(leaf).tobytes() for path, leaf in trees.flat(kept).items()}


def test_they_leave_the_bits_of_a_run_without_them(problem):
    step, state, constants, batch = begun(problem, "skip")
    _, other, _, _ = begun(problem, "skip")
    for each in (batch, spoilt(batch), batch):
        state, _ = step(state, constants, stacked(each))
    for _ in range(2):
        other, _ = step(other, constants, stacked(batch))
    assert numbers(state) == numbers(other)
    assert (int(state.step), int(state.ledger[TOTAL]), int(state.ledger[IN_A_ROW])) == (3, 1, 0)


def test_several_in_one_call_are_left_out_one_by_one(problem):
    step, state, constants, batch = begun(problem, "skip")
    _, other, _, _ = begun(problem, "skip")
    bad = spoilt(batch)
    state, metrics = step(state, constants, in_a_row(batch, bad, bad, batch, bad))
    np.testing.assert_array_equal(metrics["skipping"][TOTAL], [0, 1, 2, 2, 3])
    np.testing.assert_array_equal(metrics["skipping"][IN_A_ROW], [0, 1, 2, 0, 1])
    other, _ = step(other, constants, in_a_row(batch, batch, bad, bad, bad))
    assert numbers(state) == numbers(other)
    assert int(state.step) == 5


@pytest.mark.parametrize("policy", ["skip", "reduce_lr"])
def test_the_learning_rate_falls_only_where_that_is_asked_for(problem, policy):
    """After a bad update the next moves half as far: at the start, momentum is still 0."""
    step, state, constants, batch = begun(problem, policy)
    _, other, _, _ = begun(problem, policy)
    start = np.asarray(problem[2])
    plain, _ = step(other, constants, stacked(batch))
    state, _ = step(state, constants, stacked(spoilt(batch)))
    state, _ = step(state, constants, stacked(batch))
    moved = [np.asarray(s.params["backbone"]["beta"]) - start for s in (state, plain)]
    factor = 0.5 if policy == "reduce_lr" else 1.0
    np.testing.assert_allclose(moved[0], factor * moved[1], rtol=1e-5)
    assert float(state.ledger.get(FACTOR, 1.0)) == factor


def test_nothing_is_added_where_nobody_asks(problem):
    step, state, constants, batch = begun(problem, "stop")
    text = step.lower(state, constants, stacked(batch)).as_text()
    assert "is_finite" not in text
    _, other, _, _ = begun(problem, "skip")
    assert "is_finite" in step.lower(other, constants, stacked(batch)).as_text()
