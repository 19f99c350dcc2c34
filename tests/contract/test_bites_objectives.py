"""Broken divergences, strategies and steps: each fails exactly its own check."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx import trees
from tlx.protocols import Finished, Phase
from tlx.testing import checks, failures
from tlx.testing.altered import altered, loose
from tlx.types import Variables

COUNT = itertools.count()


def drawn(**how):
    """A tiny number that no key explains, from outside of jit."""
    return jax.pure_callback(lambda *_: np.float32(1e-6 * (next(COUNT) % 7)), jnp.zeros(()), **how)


def clash():
    """Two leaves under one path."""
    return {"x/y": jnp.ones(1), "x": {"y": jnp.ones(1)}}


def distance(params, source_params):
    gaps = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, source_params)
    return sum(jax.tree.leaves(gaps)) / 2


def pull(*, params, source_params):
    return distance(params, source_params)


def no_init(*, params, own):
    return distance(params, own)


def vector(*, params, source_params):
    return distance(params, source_params)[None]


def not_finite(*, params, source_params):
    return distance(params, source_params) + jnp.nan


def unsteady(*, params, source_params):
    noise = drawn(vmap_method="broadcast_all")
    return distance(params, source_params) * (1 + noise)


def kinked(*, params, source_params):
    return jnp.sqrt(distance(params, source_params))


def other_in_jit(*, params, source_params):
    value = distance(params, source_params)
    return value * 1.5 if isinstance(value, jax.core.Tracer) else value


def alone(*, params, source_params):
    value = distance(params, source_params)
    outside = jax.ShapeDtypeStruct((), jnp.float32)
    return value + jax.pure_callback(np.zeros_like, outside, jax.lax.stop_gradient(value))


def crowd(*, features):
    return jnp.sum(features["pooled"].mean(0) ** 2)


class Own:
    def init(self, *, model, source, batch, rng):
        return Variables(clash(), {})

    def __call__(self, *, own, params):
        return (
            jnp.sum(own["x"]["y"])
            + distance(params, params)
            + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))
        )

    def __eq__(self, other):
        return isinstance(other, Own)

    def __hash__(self):
        return 0


class Prepared(Own):
    init = None

    def prepare(self, *, model, variables, source, batches, rng):
        return clash()

    def __call__(self, *, prepared, params):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves((prepared, params)))


class Recorded(Own):
    init = None

    def record(self, *, outputs):
        return {"mean": outputs.mean(0)}

    def __call__(self, *, outputs, recorded):
        return jnp.mean((outputs - recorded["mean"]) ** 2)


DIVERGENCES = {
    "value": lambda: lambda *, params, source_params: distance(params, source_params),
    "words": lambda: no_init,
    "scalar": lambda: vector,
    "finite": lambda: not_finite,
    "deterministic": lambda: unsteady,
    "gradient": lambda: kinked,
    "jit_equals_eager": lambda: other_in_jit,
    "vmap": lambda: alone,
    "adds_up": lambda: crowd,
    "own": Own,
    "prepared": Prepared,
    "recorded": Recorded,
}


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


def part(path):
    return path.split("/", 1)[0]


def strategy(forward=supervised, group=part, own=None, **phase):
    """One phase in which everything moves."""

    def phases(model, steps):
        return (
            Phase(**({"name": "all", "steps": steps, "group": group, "forward": forward} | phase)),
        )

    return altered(
        SimpleNamespace(),
        init=lambda rng, model, batch: own or Variables({}, {}),
        phases=phases,
    )


def forward_with(change):
    """The supervised pass with its result changed: `change(forward, rng, mode)`."""

    def forward(model, variables, batch, constants, *, rng, mode, progress):
        return change(model.apply(variables, batch, rng=rng, mode=mode), rng, mode)

    return strategy(forward)


def noisy_eval(found, rng, mode):
    return found._replace(loss=found.loss + (jax.random.uniform(rng) if mode == "eval" else 0))


def noisy_train(found, rng, mode):
    return found._replace(loss=found.loss + (drawn() if mode == "train" else 0))


def crowded(found, rng, mode):
    """Not what it adds to the mean of all: that is the same in parts."""
    return found._replace(loss=found.loss + jnp.square(found.features["pooled"].mean(0)).sum())


def thawed(model, variables, batch, constants, *, rng, mode, progress):
    return model.with_frozen(0, "train").apply(variables, batch, rng=rng, mode=mode)


def own_outputs(model, variables, batch, constants, *, rng, mode, progress):
    """Tested with a parameter that is no part of the model."""
    found = model.apply(variables, batch, rng=rng, mode=mode)
    outputs = found.outputs + variables.params["strategy"]["w"]
    return found._replace(outputs=outputs, loss=model.head.loss(outputs, batch))


def greedy_loss(model, variables, batch, constants, *, rng, mode, progress):
    """On whatever features there are."""
    found = model.apply(variables, batch, rng=rng, mode=mode)
    each = [jnp.abs(f).reshape(len(f), -1).mean(1) for f in found.features.values()]
    return found._replace(loss=found.loss + sum(each))


def knows_the_cache(model, variables, batch, constants, *, rng, mode, progress):
    found = model.apply(variables, batch, rng=rng, mode=mode)
    return found._replace(loss=found.loss * (1 if batch.frozen is None else 2))


def half_used(model, variables, batch, constants, *, rng, mode, progress):
    found = model.apply(variables, batch, rng=rng, mode=mode)
    own = variables.params["strategy"]["w"]
    return found._replace(loss=found.loss + jnp.sum((own - 1) ** 2))


def head_alone(path):
    return "frozen" if part(path) == "backbone" else part(path)


def short(model, steps):
    return strategy().phases(model, steps - (steps > 50))


def unfinished(*, model, start, variables, batches, score):
    return Finished(Variables(variables.params, {}))


def meddling(params, state, *, progress):
    return jax.tree.map(lambda leaf: leaf + 1, state)


def glaring(model, variables, batch, *, rng):
    return {"too bright": 2 * jnp.ones(batch.inputs["image"].shape)}


def wavering(*, model, variables, batches, rng):
    """Something else each time: what equals nothing but itself."""
    return loose(strategy())


def drifting(params):
    return {**params, "head": jax.tree.map(lambda leaf: leaf + 1, params["head"])}


STRATEGIES = {
    "value": lambda: loose(strategy()),
    "variables": lambda: strategy(own=Variables({}, clash())),
    "steps_add_up": lambda: altered(strategy(), init=strategy().init, phases=short),
    "groups": lambda: strategy(group=lambda path: "" if path == "head/bias" else part(path)),
    "forward": lambda: forward_with(
        lambda found, rng, mode: found._replace(features={"pooled": found.features["pooled"]})
    ),
    "eval_is_still": lambda: forward_with(noisy_eval),
    "same_key_same_numbers": lambda: forward_with(noisy_train),
    "adds_up": lambda: forward_with(crowded),
    "gradient": lambda: forward_with(
        lambda found, rng, mode: found._replace(loss=jnp.mean(found.features["pooled"] ** 2, -1))
    ),
    "frozen_statistics": lambda: strategy(thawed, norm="frozen"),
    "setup": lambda: altered(
        SimpleNamespace(), init=strategy().init, phases=strategy().phases, setup=wavering
    ),
    "finish": lambda: altered(
        SimpleNamespace(), init=strategy().init, phases=strategy().phases, finish=unfinished
    ),
    "effective": lambda: altered(
        SimpleNamespace(), init=strategy().init, phases=strategy().phases, effective=drifting
    ),
    "averages": lambda: altered(
        SimpleNamespace(),
        init=strategy().init,
        phases=strategy().phases,
        begin=lambda params, state: state,
        after_update=meddling,
    ),
    "tested_is_saved": lambda: strategy(own_outputs, own=Variables({"w": jnp.ones(3)}, {})),
    "reads_what_is_kept": lambda: strategy(greedy_loss, group=head_alone, norm="frozen"),
    "cached_is_the_same": lambda: strategy(knows_the_cache, group=head_alone, norm="frozen"),
    "every_leaf_learns": lambda: strategy(
        half_used, own=Variables({"w": jnp.zeros(2), "unused": jnp.ones(2)}, {})
    ),
    "draw": lambda: altered(
        SimpleNamespace(), init=strategy().init, phases=strategy().phases, draw=glaring
    ),
}


def step(update=lambda u: u, after=lambda t: t, metrics=lambda m: m, order=lambda k: k, jit=True):
    """A step in the plainest form, with its parts changed."""

    def build(objective, tx, trainable, mesh):
        def one(train, constants, batch):
            moving, still = trees.partition(train.params, trainable)

            def loss(moving):
                return objective(
                    trees.merge(moving, still), train.state, batch, constants,
                    rng=train.rng, progress=train.step / constants.hyper["steps"],
                )  # fmt: skip

            (_, (state, found)), slope = jax.value_and_grad(loss, has_aux=True)(moving)
            updates, opt_state = tx.update(
                slope, train.opt_state, moving, hyper=constants.hyper, step=train.step
            )
            params = trees.merge(optax.apply_updates(moving, update(updates)), still)
            state = objective.updated(params, state, train.step / constants.hyper["steps"])
            return train._replace(
                step=train.step + 1, params=params, state=state, opt_state=opt_state
            ), found

        def several(train, constants, batches):
            count, found = batches.targets["label"].shape[0], []
            for k in order(range(count)):
                batch = jax.tree.map(lambda leaf, k=k: leaf[k], batches)
                train, metric = one(train, constants, batch)
                found.append(metric)
            return after(train), metrics(jax.tree.map(lambda *m: jnp.stack(m), *found))

        if not jit:
            several.lower = jax.jit(several).lower
        return jax.jit(several) if jit else several

    return altered(SimpleNamespace(), build=build)


def forgetful(train):
    return train._replace(
        state={**train.state, "strategy": {"w": train.state["strategy"]["w"] * 0}}
    )


def nudged(train):
    still = train.params["backbone"]["still"] + 1e-6
    return train._replace(
        params={**train.params, "backbone": {**train.params["backbone"], "still": still}}
    )


def greedy():
    """Gives the memory of the constants away."""

    def build(objective, tx, trainable, mesh):
        run = step().build(objective, tx, trainable, mesh)

        def call(train, constants, batches):
            found = jax.block_until_ready(run(train, constants, batches))
            jax.tree.map(lambda leaf: leaf.delete(), constants)
            return found

        call.lower = run.lower
        return call

    return altered(SimpleNamespace(), build=build)


def plain():
    """A function around what `jax.jit` returns."""

    def build(objective, tx, trainable, mesh):
        run = step().build(objective, tx, trainable, mesh)
        return lambda train, constants, batches: run(train, constants, batches)

    return altered(SimpleNamespace(), build=build)


STEPS = {
    "value": lambda: loose(step()),
    "state": lambda: step(after=lambda train: train._replace(step=train.step * 0 + 1)),
    "averages": lambda: step(after=forgetful),
    "metrics": lambda: step(metrics=lambda m: {k: v for k, v in m.items() if k != "task"}),
    "update": lambda: step(update=lambda u: jax.tree.map(lambda leaf: 2 * leaf, u)),
    "frozen": lambda: step(after=nudged),
    "stacked_equals_calls": lambda: step(order=lambda counts: reversed(counts)),
    "same_twice": lambda: step(update=lambda u: jax.tree.map(lambda leaf: leaf + drawn(), u)),
    "skips": lambda: altered(SimpleNamespace(), build=step().build, skips=True),
    "learning_rate_is_traced": lambda: step(jit=False),
    "compiles_ahead": plain,
    "constants_survive": greedy,
}
BROKEN = {"divergences": DIVERGENCES, "strategies": STRATEGIES, "steps": STEPS}
SOUND = {
    "divergences": lambda: pull,
    "strategies": lambda: strategy(),
    "steps": lambda: step(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_sound_toy_passes(kind):
    assert failures(kind, SOUND[kind]) == {}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_check_has_a_toy_that_it_catches(kind):
    assert {f"check_{name}" for name in BROKEN[kind]} == set(checks(kind))


@pytest.mark.parametrize(
    ("kind", "check"), [(kind, check) for kind, toys in BROKEN.items() for check in toys]
)
def test_a_broken_toy_fails_its_own_check_alone(kind, check):
    found = failures(kind, BROKEN[kind][check])
    assert list(found) == [f"check_{check}"], found


@pytest.mark.parametrize("kind", ["divergences", "strategies"])
def test_a_whole_batch_that_is_not_needed_is_noticed(kind):
    """Without the mark it is sound."""
    marked = {
        "divergences": lambda: Marked(),
        "strategies": lambda: altered(
            SimpleNamespace(),
            init=strategy().init,
            phases=strategy().phases,
            whole_batch="it says so",
        ),
    }
    found = failures(kind, marked[kind])
    assert list(found) == ["check_adds_up"]
    assert "leave it out" in found["check_adds_up"]


class Marked(Own):
    init, whole_batch = None, "it says so"

    def __call__(self, *, params, source_params):
        return distance(params, source_params)
