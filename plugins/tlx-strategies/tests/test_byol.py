"""BYOL: its loss against PyTorch, and the teacher: where it begins, how it follows, no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies import teacher
from tlx_strategies.byol import byol, distance
from torch.nn import functional

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat
from tlx.types import Constants, Variables

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
BACKBONE = ToyBackbone(width=2, size=None, dropout=0.0)
MODEL = Model(BACKBONE, None, BACKBONE.inputs)
BATCH = {
    "image": jnp.asarray(RNG.random((4, 14, 21, 3)), jnp.float32),
    "index": jnp.arange(4),
    "weight": jnp.asarray([1.0, 1.0, 1.0, 0.0]),
}
STRATEGY = byol(projector=(6, 4), predictor=(5, 4), views=("flip", "crop"))


def start():
    made = MODEL.init(KEY, BATCH)
    own = STRATEGY.init(jax.random.key(1), MODEL, BATCH)
    params = {**made.params, "strategy": own.params}
    return Variables(params, STRATEGY.begin(params, {**made.state, "strategy": own.state}))


def loss(params, state, mode="train"):
    made = STRATEGY.forward(
        MODEL, params, state, BATCH, Constants({}, {}, {}, {}),
        rng=KEY, mode=mode, progress=jnp.float32(0),
    )  # fmt: skip
    return jnp.sum(made.loss * BATCH["weight"]), made.state


def test_loss_and_gradient_agree_with_pytorch():
    q, z = RNG.normal(size=(2, 2, 3, 5)).astype(np.float32)
    theirs = torch.tensor(q, dtype=torch.float64, requires_grad=True)
    other = torch.tensor(z, dtype=torch.float64)
    expected = sum(
        functional.mse_loss(
            functional.normalize(theirs[i], dim=-1),
            functional.normalize(other[1 - i], dim=-1),
            reduction="none",
        ).sum(-1)
        for i in (0, 1)
    )
    expected.sum().backward()
    np.testing.assert_allclose(distance(q, z), expected.detach(), rtol=1e-5)
    slope = jax.grad(lambda x: distance(x, z).sum())(q)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-4, atol=1e-6)


def test_the_teacher_begins_as_the_student_and_has_no_predictor():
    params, state = start()
    there = state["strategy"]["teacher"]
    jax.tree.map(np.testing.assert_array_equal, there["params"]["backbone"], params["backbone"])
    assert there["params"]["strategy"].keys() == {"projector"}


def test_no_gradient_passes_through_the_teacher():
    params, state = start()
    slope = quick_jit(jax.grad(lambda s: loss(params, s)[0], allow_int=True))(state)
    through = flat(slope["strategy"]["teacher"]["params"])
    assert through
    assert not any(np.any(leaf) for leaf in through.values())


def test_the_teachers_statistics_are_its_own_and_move():
    params, state = start()
    _, after = quick_jit(loss)(params, state)
    moved, was = (flat(s["strategy"]["teacher"]["state"]["backbone"]) for s in (after, state))
    assert all(np.any(moved[path] != was[path]) for path in was)
    still = loss(params, state, "eval")[1]
    jax.tree.map(np.testing.assert_array_equal, still, state)


def test_it_follows_as_the_formula_says():
    """xi <- tau xi + (1 - tau) theta with tau = 1 - (1 - tau_0)(cos(pi k / K) + 1) / 2."""
    params, state = start()
    kernel = np.asarray(next(iter(flat(params["backbone"]).values())), np.float64)
    path = next(iter(flat(params["backbone"])))
    mine, steps = kernel.copy(), 6
    for k in range(steps):
        params = {**params, "backbone": jax.tree.map(lambda x: x + 0.1, params["backbone"])}
        kernel = kernel + 0.1
        tau = 1 - (1 - 0.9) * (np.cos(np.pi * k / steps) + 1) / 2
        mine = tau * mine + (1 - tau) * kernel
        state = teacher.follow(params, state, start=0.9, progress=jnp.float32(k / steps))
    found = flat(state["strategy"]["teacher"]["params"]["backbone"])[path]
    np.testing.assert_allclose(found, mine, rtol=1e-5)


def test_refusals():
    with pytest.raises(ConfigError, match="momentum is the share of itself"):
        byol(momentum=1.5)
    with pytest.raises(ConfigError, match="must end with 4"):
        byol(projector=(6, 4), predictor=(5, 3))
