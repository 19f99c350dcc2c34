"""What all joint-embedding methods do: learn, leave padding out, keep a teacher out of the
gradient, watch and draw."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tlx_strategies import barlow_twins, byol, dino, simclr, vicreg

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Averages, Draws, SelfSupervised, Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat, groups
from tlx.types import Batch, Constants, Variables

KEY = jax.random.key(0)
BACKBONE = ToyBackbone(width=4, size=None, dropout=0.0)
MODEL = Model(BACKBONE, None, BACKBONE.inputs)
PICTURES = np.random.default_rng(0).random((8, 12, 12, 3)).astype(np.float32)
SHORT = {"projector": (16, 8), "views": ("crop",)}
METHODS = {
    "simclr": simclr.simclr(**SHORT),
    "byol": byol.byol(**SHORT, predictor=(16, 8)),
    "vicreg": vicreg.vicreg(**SHORT),
    "barlow_twins": barlow_twins.barlow_twins(**SHORT),
    "dino": dino.dino(**SHORT, prototypes=8, local=2, local_views=("flip",)),
}
every = pytest.mark.parametrize("name", METHODS)
with_teacher = pytest.mark.parametrize("name", ["byol", "dino"])


def batch(image=PICTURES, real=8):
    weight = (jnp.arange(len(image)) < real).astype(jnp.float32)
    return Batch({"image": jnp.asarray(image)}, {}, jnp.arange(len(image)), weight)


@cache
def start(name):
    strategy = METHODS[name]
    made = quick_jit(MODEL.init)(KEY, batch())
    own = quick_jit(lambda key: strategy.init(key, MODEL, batch()))(jax.random.key(1))
    params, state = {**made.params, "strategy": own.params}, {**made.state, "strategy": own.state}
    began = strategy.begin(params, state) if isinstance(strategy, Averages) else state
    return Variables(params, began)


@cache
def slope_of(name, norm):
    """(params, state, batch) -> loss of the real rows, its gradient in both, and the pass."""
    model = MODEL.with_frozen(0, norm)

    def loss(params, state, fed):
        forward = METHODS[name].forward(
            model, Variables(params, state), fed, Constants({}, {}, {}, {}),
            rng=KEY, mode="train", progress=jnp.float32(0.5),
        )  # fmt: skip
        total = (forward.loss * fed.weight).sum() / fed.weight.sum()
        return total, forward._replace(outputs=())

    return quick_jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


@every
def test_a_few_steps_lower_the_loss(name):
    params, state = start(name)
    tx, norm = optax.adam(3e-3), "train" if name in ("byol", "dino") else "frozen"
    optimizer, losses = tx.init(params), []
    for step in range(12):
        (loss, forward), (slope, _) = slope_of(name, norm)(params, state, batch())
        updates, optimizer = tx.update(slope, optimizer)
        params, state = optax.apply_updates(params, updates), forward.state
        if isinstance(METHODS[name], Averages):
            state = METHODS[name].after_update(params, state, progress=jnp.float32(step / 12))
        losses.append(float(loss))
    assert losses[-1] < losses[0] * 0.9


@every
def test_features_and_inputs_are_those_of_the_first_view(name):
    params, state = start(name)
    (_, forward), _ = slope_of(name, "frozen")(params, state, batch())
    views = METHODS[name].views.draw(batch(), *first_key(name), "train")
    np.testing.assert_allclose(forward.inputs["image"], views[0], atol=1e-6)
    variables = Variables(params, state)
    expected, _ = MODEL.features(variables, batch(views[0]), rng=KEY, mode="eval")
    for feature, value in expected.items():
        np.testing.assert_allclose(forward.features[feature], value, rtol=1e-4, atol=1e-5)


def first_key(name):
    return (jax.random.split(KEY, {"byol": 3, "dino": 4}.get(name, 2))[0],)


@every
def test_padding_changes_nothing_for_others(name):
    """With the running statistics of the backbone, whose batch norm knows of no padding."""
    params, state = start(name)
    run = slope_of(name, "frozen")
    (loss, forward), (slope, _) = run(params, state, batch(real=6))
    other = np.concatenate([PICTURES[:6], 1 - PICTURES[6:] ** 2])
    (same, again), (also, _) = run(params, state, batch(other, real=6))
    np.testing.assert_allclose(same, loss, rtol=1e-5)
    np.testing.assert_allclose(again.loss[:6], forward.loss[:6], rtol=1e-4, atol=1e-5)
    for one, two in ((slope, also), (forward.state, again.state)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, two)


@with_teacher
def test_the_teacher_begins_as_loaded_and_gets_no_gradient_but_statistics_of_its_own(name):
    params, state = start(name)
    teacher = state["strategy"]["teacher"]
    jax.tree.map(np.testing.assert_array_equal, teacher["params"]["backbone"], params["backbone"])
    (_, forward), (_, slope) = slope_of(name, "train")(params, state, batch())
    reached = flat(slope["strategy"]["teacher"])
    assert not any(np.asarray(leaf).any() for leaf in reached.values())
    after = forward.state["strategy"]["teacher"]
    jax.tree.map(np.testing.assert_array_equal, after["params"], teacher["params"])
    for was, now in zip(
        flat(teacher["state"]).values(), flat(after["state"]).values(), strict=True
    ):
        assert (np.asarray(was) != np.asarray(now)).any()


@every
def test_it_is_a_strategy_without_labels_in_one_phase(name):
    strategy = METHODS[name]
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, SelfSupervised)
    assert isinstance(strategy, Draws)
    assert isinstance(strategy, Averages) == (name in ("byol", "dino"))
    assert strategy.keeps == "last"
    (phase,) = strategy.phases(MODEL, 7)
    assert (phase.name, phase.steps, phase.norm) == (name, 7, "train")
    assert phase == strategy.phases(MODEL, 7)[0]
    sent = flat(groups(start(name).params, phase.group))
    assert set(sent.values()) == {"backbone", "strategy"}
    with pytest.raises(ConfigError, match=f"'{name}' learns without labels.*head = \"none\""):
        strategy.phases(replace(MODEL, head=object()), 1)


def test_it_draws_what_it_sees():
    drawn = METHODS["dino"].draw(MODEL, start("dino"), batch(), rng=KEY)
    assert list(drawn) == ["original", "first view", "second view", "small crop"]
    np.testing.assert_allclose(drawn["original"], PICTURES)
    assert (np.asarray(drawn["first view"]) != np.asarray(drawn["second view"])).any()
