"""One real step of every phase of the supervised strategies: what is frozen keeps every bit, what
moves follows its rate, and statistics follow the policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies.bitfit import BitFit
from tlx_strategies.finetune import Finetune
from tlx_strategies.gradual_unfreezing import GradualUnfreezing
from tlx_strategies.probe_then_finetune import ProbeThenFinetune
from tlx_strategies.stochnorm import stochnorm

from tlx import trees
from tlx.config import OptimizerConfig
from tlx.objective import Objective
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.registry import build
from tlx.testing.compiling import compiled_once
from tlx.testing.world import constants, world
from tlx.types import TrainState, Variables

HERE = world(8)
SGD = OptimizerConfig(name="sgd", momentum=0.0, schedule="constant")
STAGE1, STAGE2, HEAD = "backbone/stage1", "backbone/stage2", "head"
OFFSETS = {
    f"backbone/{stage}/{layer}/bias" for stage in ("stage1", "stage2") for layer in ("conv", "norm")
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """(strategy, number of a phase) -> path -> change of every parameter and statistic in its
    first step."""
    folder = tmp_path_factory.mktemp("programs")
    known = {}

    def run(strategy, number=0):
        key = (strategy, number)
        if key not in known:
            with compiled_once(folder):
                known[key] = changes(plan(strategy, HERE.model, HERE.variables.params, 9)[number])
        return known[key]

    return run


def changes(planned):
    params, state = jax.tree.map(jnp.copy, HERE.variables)
    tx = transform(SGD, start=planned.start, steps=9, multipliers=planned.multipliers)
    objective = Objective(planned.model, planned.phase.forward)
    step = build("steps", "jit").build(objective, tx, planned.trainable, None)
    moving, _ = trees.partition(params, planned.trainable)
    start = TrainState(jnp.int32(0), params, state, tx.init(moving), jax.random.key(1), {})
    batches = jax.tree.map(lambda leaf: leaf[None], HERE.batch)
    after, _ = step(start, constants(HERE), batches)
    then = trees.flat(HERE.variables)
    now = trees.flat(Variables(after.params, after.state))
    return {path: np.asarray(leaf) - np.asarray(then[path]) for path, leaf in now.items()}


def paths(found, top):
    """What changed below `params` or `state`, in whatever bit."""
    return {
        path.removeprefix(f"{top}/")
        for path, change in found.items()
        if path.startswith(f"{top}/") and change.any()
    }


def below(*prefixes):
    every = trees.flat(HERE.variables.params)
    return {path for path in every if path.startswith(prefixes)}


def statistics(*stages):
    return {f"backbone/{stage}/{kind}" for stage in stages for kind in ("mean", "var")}


def without_idle(found):
    """Batch norm by the batch takes the bias of a convolution out again: rounding moves it."""
    return {path for path in found if not path.endswith("conv/bias")}


@pytest.mark.parametrize(
    ("strategy", "number", "moves", "counts"),
    [
        (Finetune(), 0, below("backbone", "head"), ("stage1", "stage2")),
        (Finetune(frozen=("stage1",), layer_decay=0.5), 0, below(STAGE2, HEAD), ("stage2",)),
        (Finetune(norm="frozen_affine"), 0, {p for p in below("") if "/norm/" not in p}, ()),
        (ProbeThenFinetune(), 1, below("backbone", HEAD), ()),
        (GradualUnfreezing(), 0, below(HEAD), ()),
        (GradualUnfreezing(), 1, below(STAGE2, HEAD), ("stage2",)),
        (GradualUnfreezing(), 2, below("backbone", HEAD), ("stage1", "stage2")),
        (BitFit(), 0, OFFSETS | below(HEAD), ()),
        (BitFit(norm="train"), 0, OFFSETS | below(HEAD), ("stage1", "stage2")),
        (stochnorm(), 0, below("backbone", HEAD), ("stage1", "stage2")),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_moves(moved, strategy, number, moves, counts):
    found = moved(strategy, number)
    assert without_idle(paths(found, "params")) == without_idle(moves)
    assert paths(found, "params") <= moves
    assert paths(found, "state") == statistics(*counts)


@pytest.mark.parametrize(
    ("strategy", "number", "rates"),
    [
        (Finetune(layer_decay=0.75), 0, {STAGE1: 0.5625, STAGE2: 0.75, HEAD: 1}),
        (Finetune(0.1, stage_lr={"stage2": 2.0}), 0, {STAGE1: 0.1, STAGE2: 2, HEAD: 1}),
        (GradualUnfreezing(), 2, {STAGE1: 1 / 6.76, STAGE2: 1 / 2.6, HEAD: 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_step_is_as_long_as_its_rate_says(moved, strategy, number, rates):
    plain, found = moved(Finetune()), moved(strategy, number)
    for path in trees.flat(HERE.variables.params):
        (rate,) = (rate for part, rate in rates.items() if path.startswith(part))
        here, there = found[f"params/{path}"], plain[f"params/{path}"]
        np.testing.assert_allclose(here, rate * there, atol=1e-6, err_msg=path)
