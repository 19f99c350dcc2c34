"""EWC and L2-SP-Fisher: sums by hand, L2-SP as a special case, and the closed form of a linear
model, which training through the objective and the step must reach."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_divergences.ewc import EWC
from tlx_divergences.fisher import Fisher
from tlx_divergences.l2_sp import L2SP
from tlx_divergences.l2_sp_fisher import L2SPFisher
from tlx_image import ImageInput

from tlx import trees
from tlx.config import OptimizerConfig
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.protocols import Phase
from tlx.quantities import asked
from tlx.registry import build
from tlx.testing.world import world
from tlx.types import (
    Batch,
    Constants,
    FeatureSpec,
    Forward,
    LeafInfo,
    Network,
    TrainState,
    Variables,
)

W = {"kernel": jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.asarray([1.0, 1.0])}
START = {"kernel": jnp.zeros((2, 2)), "bias": jnp.asarray([3.0, 1.0])}
FISHER = {"kernel": jnp.asarray([[1.0, 0.5], [0.0, 2.0]]), "bias": jnp.asarray([0.25, 9.0])}
HEAD = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.ones(2)}
WORDS = {"params": W, "source_params": START, "prepared": FISHER}


def test_sums_by_hand():
    assert asked(EWC()) == set(WORDS)
    by_hand = (1 * 1 + 0.5 * 4 + 0 * 9 + 2 * 16 + 0.25 * 4 + 9 * 0) / 2
    assert float(EWC()(**WORDS)) == by_hand
    assert asked(L2SPFisher()) == {*WORDS, "head_params"}
    assert float(L2SPFisher()(**WORDS, head_params=None)) == by_hand
    assert float(L2SPFisher(head=0.5)(**WORDS, head_params=HEAD)) == by_hand + 0.5 * 13


@pytest.mark.parametrize("head", [0.0, 0.5])
def test_with_a_fisher_of_one_it_is_l2_sp(head):
    words = {"params": W, "source_params": START, "head_params": HEAD}
    ones = jax.tree.map(jnp.ones_like, W)
    assert float(L2SPFisher(head=head)(**words, prepared=ones)) == float(L2SP(head=head)(**words))


def test_both_prepare_the_fisher_of_the_source():
    """Of the source's weights and head, not of the model's, which is of other numbers here."""
    model, variables, source, batch = world(8)
    words = {
        "model": model,
        "variables": variables,
        "source": Network(model, source),
        "batches": [batch],
        "rng": jax.random.key(1),
    }
    options = {"labels": "exact", "normalised": True, "samples": 3, "chunk": 3}
    wanted = Fisher(**options).prepare(**words)
    other = Fisher(**options).prepare(**{**words, "source": Network(model, variables)})
    for divergence in (EWC(**options), L2SPFisher(**options)):
        found = divergence.prepare(**words)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), found, wanted)
        assert all(jax.tree.leaves(same))
        assert trees.flat(found).keys() == trees.flat(source.params["backbone"]).keys()
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), other, wanted)
    assert any(jax.tree.leaves(differs))


def test_refusals():
    for kind in (EWC, L2SPFisher):
        with pytest.raises(ConfigError, match="Did you mean 'exact'"):
            kind(labels="exakt")
        with pytest.raises(ConfigError, match="samples must be 1 or more"):
            kind(samples=0)
    with pytest.raises(ConfigError, match="0 or more"):
        L2SPFisher(head=-1.0)
    with pytest.raises(ConfigError, match=r"l2_sp_fisher weighs the head.*no head"):
        L2SPFisher(head=1.0)(**WORDS, head_params=None)


@dataclass(frozen=True)
class Linear:
    """The pixels of a (1,2,3) picture times `beta`."""

    inputs: ImageInput = field(default_factory=ImageInput)
    features: tuple[FeatureSpec, ...] = (FeatureSpec("y", "vector", 1),)
    modes: frozenset[str] = frozenset({"train", "tune", "eval"})

    def leaf(self, path):
        return LeafInfo("beta", "kernel")

    def apply(self, params, state, x, *, rng, mode):
        return {"y": x.reshape(len(x), -1) @ params["beta"]}, state


@dataclass(frozen=True)
class LeastSquares:
    """One phase in which everything moves to the least squares."""

    def init(self, rng, model, batch):
        return Variables({}, {})

    def phases(self, model, steps):
        return (Phase(name="fit", steps=steps, group=lambda path: "all", forward=squared),)


def squared(model, variables, batch, constants, *, rng, mode, progress):
    features, body = model.features(variables, batch, rng=rng, mode=mode)
    loss = jnp.square(features["y"][:, 0] - batch.targets["label"]) / 2
    return Forward(loss, batch.inputs, features, None, {**variables.state, "backbone": body})


@pytest.mark.parametrize("weight", [0.1, 2.0])
def test_training_reaches_the_closed_form(weight):
    """argmin 1/2n ‖Xw − y‖² + λ/2 Σ F (w − w⁰)² solves (XᵀX/n + λ diag F) w = Xᵀy/n + λ F w⁰."""
    rng = np.random.default_rng(0)
    x, start = rng.normal(size=(40, 6)), rng.normal(size=6)
    y = x @ rng.normal(size=6)
    fisher = np.asarray([0.0, 0.01, 0.1, 1.0, 3.0, 10.0])
    exact = np.linalg.solve(
        x.T @ x / 40 + weight * np.diag(fisher), x.T @ y / 40 + weight * fisher * start
    )
    backbone, steps = Linear(), 600
    model = Model(backbone, None, backbone.inputs)
    params = {"backbone": {"beta": jnp.asarray(start[:, None], jnp.float32)}}
    config = OptimizerConfig(
        name="sgd", momentum=0.9, schedule="constant", learning_rate=0.04, weight_decay=0.0
    )
    (planned,) = plan(LeastSquares(), model, params, steps)
    tx = transform(config, start=0, steps=steps, multipliers=planned.multipliers)
    term = Term("ewc", EWC())
    objective = Objective(planned.model, squared, (term,), (("source", model),))
    step = build("steps", "jit").build(objective, tx, planned.trainable, None)
    source = Variables(jax.tree.map(jnp.copy, params), {"backbone": {}})
    hyper = {
        "learning_rate": jnp.float32(config.learning_rate),
        "weight_decay": jnp.float32(0),
        "divergence": {"ewc": jnp.float32(weight)},
        "steps": jnp.float32(steps),
    }
    prepared = {"ewc": {"beta": jnp.asarray(fisher[:, None], jnp.float32)}}
    constants = Constants({"source": source}, prepared, {}, hyper)
    batch = Batch(
        {"image": jnp.asarray(x.reshape(1, 40, 1, 2, 3), jnp.float32)},
        {"label": jnp.asarray(y[None], jnp.float32)},
        jnp.arange(40)[None],
        jnp.ones((1, 40)),
    )
    state = TrainState(jnp.int32(0), params, source.state, tx.init(params), jax.random.key(1), {})
    for _ in range(steps):
        state, metrics = step(state, constants, batch)
    found = np.asarray(state.params["backbone"]["beta"])[:, 0]
    np.testing.assert_allclose(found, exact, atol=2e-5)
    away = np.sum(fisher * (exact - start) ** 2) / 2
    np.testing.assert_allclose(metrics["divergence/ewc"][0], away, rtol=1e-3)
