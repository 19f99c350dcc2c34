"""Broken backbones and heads: each fails exactly its own check."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import ImageInput

from tlx.testing import checks, failures
from tlx.testing.altered import altered, loose
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import LeafInfo, Variables

TOY = ToyBackbone(dropout=0.0)
HEAD = ToyHead()
COUNT = itertools.count()


def drawn(x, **how):
    """A number that no key explains, from outside of jit."""
    return jax.pure_callback(lambda: np.float32(next(COUNT)), jnp.zeros(()), **how)


def twice(variables):
    """Two leaves under one path."""
    extra = {"x/y": jnp.zeros(1), "x": {"y": jnp.zeros(1)}}
    return Variables({**variables.params, **extra}, variables.state)


def backbone(after=None, **members):
    """The toy with its stages changed: `after(features, state, start, stop, rng, mode)`."""

    def stages(params, state, carry, *, start, stop, rng, mode):
        carry, features, state = TOY.apply_stages(
            params, state, carry, start=start, stop=stop, rng=rng, mode=mode
        )
        if after:
            features, state = after(dict(features), dict(state), start, stop, rng, mode)
        return carry, features, state

    def apply(params, state, x, *, rng, mode):
        return stages(params, state, x, start=0, stop=2, rng=rng, mode=mode)[1:]

    return altered(TOY, **({"apply_stages": stages, "apply": apply} | members))


def pooled(change):
    """Change the deepest feature wherever it arises: `change(pooled, rng, mode)`."""

    def after(features, state, start, stop, rng, mode):
        if "pooled" in features:
            features["pooled"] = change(features["pooled"], rng, mode)
        return features, state

    return backbone(after)


def moved(where):
    """Move the statistics in one mode more than allowed."""

    def after(features, state, start, stop, rng, mode):
        if mode == where and stop == 2:
            state = jax.tree.map(lambda leaf: leaf + 1, state)
        return features, state

    return backbone(after)


def still(params, state, x, *, rng, mode):
    return TOY.apply(params, state, x, rng=rng, mode="tune" if mode == "stochastic" else mode)


def larger_state(features, state, start, stop, rng, mode):
    return features, {**state, "more": jnp.zeros(1)} if mode == "train" else state


def pooled_too_early(features, state, start, stop, rng, mode):
    return (features if stop == 2 else {**features, "pooled": jnp.zeros((1, 8))}), state


def wrong_second_stage(params, state, carry, *, start, stop, rng, mode):
    carry, features, state = TOY.apply_stages(
        params, state, carry, start=start, stop=stop, rng=rng, mode=mode
    )
    return carry, {k: v * (1.5 if start else 1.0) for k, v in features.items()}, state


def any_leaf(path):
    return LeafInfo("stage1", "bias") if path.startswith("x") else TOY.leaf(path)


def maskable(after=lambda features, state, x, count: (features, state)):
    """The toy, masked soundly if not well: the input is. `after(features, state, x, count)` changes
    what comes of it."""

    def apply_visible(params, state, x, visible, *, count, rng, mode):
        def positions(side):
            wide = side // visible.shape[1]
            return jnp.repeat(jnp.repeat(visible, wide, 1), wide, 2)[..., None]

        seen = jnp.where(positions(8), x, 0)
        features, state = TOY.apply(params, state, seen, rng=rng, mode=mode)
        features = {
            name: leaf * positions(leaf.shape[1]) if leaf.ndim == 4 else leaf
            for name, leaf in features.items()
        }
        return after(features, state, x, count)

    return altered(TOY, cell=2, apply_visible=apply_visible)


def larger_if_hidden(features, state, x, count):
    return features, {**state, "more": jnp.zeros(1)} if count < 16 else state


def peeping(features, state, x, count):
    """Only where something is hidden, so that all of a picture is still a picture."""
    return features, jax.tree.map(lambda leaf: leaf + (x.sum() if count < 16 else 0), state)


def doubled(features, state, x, count):
    return {**features, "pooled": 2 * features["pooled"]}, state


ODD_INPUT = type("Odd", (ImageInput,), {"kind": 3})(size=(8, 8))

BACKBONES = {
    "value": lambda: loose(backbone()),
    "inputs": lambda: backbone(inputs=ODD_INPUT),
    "modes": lambda: backbone(modes=frozenset({"train", "tune", "eval", "fast"})),
    "variables": lambda: backbone(init=lambda rng, x: twice(TOY.init(rng, x)), leaf=any_leaf),
    "features": lambda: backbone(
        features=(*TOY.features[:2], TOY.features[2]._replace(channels=5))
    ),
    "state_form": lambda: backbone(larger_state),
    "leaf": lambda: backbone(leaf=lambda path: LeafInfo("stage1", "weight")),
    "stages_form": lambda: backbone(pooled_too_early),
    "stages_equal_apply": lambda: altered(TOY, apply_stages=wrong_second_stage),
    "eval_keeps_state": lambda: moved("eval"),
    "tune_keeps_state": lambda: moved("tune"),
    "stochastic": lambda: altered(TOY, apply=still),
    "same_key_same_numbers": lambda: pooled(
        lambda x, rng, mode: x + drawn(x) if mode == "train" else x
    ),
    "eval_ignores_key": lambda: pooled(
        lambda x, rng, mode: x + jax.random.uniform(rng) if mode == "eval" else x
    ),
    "eval_sees_examples_alone": lambda: pooled(lambda x, rng, mode: x + x.mean(0)),
    "jit_equals_eager": lambda: pooled(
        lambda x, rng, mode: 1.5 * x if isinstance(x, jax.core.Tracer) else x
    ),
    "gradient": lambda: pooled(lambda x, rng, mode: jax.lax.stop_gradient(x)),
    "visible_form": lambda: maskable(larger_if_hidden),
    "hidden_changes_nothing": lambda: maskable(peeping),
    "visible_equals_apply": lambda: maskable(doubled),
}


def head(**members):
    return altered(HEAD, **members)


def answer(outputs=lambda o, rng: o, state=lambda s, mode: s):
    """The toy head with its answer changed."""

    def apply(params, old, features, *, inputs, rng, mode):
        found, new = HEAD.apply(params, old, features, inputs=inputs, rng=rng, mode=mode)
        return outputs(found, rng), state(new, mode)

    return head(apply=apply)


def measured(change):
    return head(measure=lambda o, batch: change(HEAD.measure(o, batch), batch))


def mean_accuracy(found, batch):
    return {**found, "correct": found["correct"] / jnp.maximum(found["n"], 1)}


HEADS = {
    "value": lambda: loose(head()),
    "needs": lambda: head(needs=("pooled", "pooled")),
    "variables": lambda: head(init=lambda rng, features: twice(HEAD.init(rng, features))),
    "outputs": lambda: answer(state=lambda s, mode: {"more": jnp.ones(1)} if mode == "tune" else s),
    "eval_is_still": lambda: answer(lambda o, rng: o + jax.random.uniform(rng)),
    "loss": lambda: head(loss=lambda o, batch: HEAD.loss(o, batch)[:, None]),
    "loss_ignores_weight": lambda: head(loss=lambda o, b: HEAD.loss(o, b) * b.weight),
    "gradient": lambda: answer(lambda o, rng: jax.lax.stop_gradient(o)),
    "predict": lambda: head(predict=lambda o: {"score": o - o.mean(0)}),
    "measure_adds_up": lambda: measured(mean_accuracy),
    "measure_skips_padding": lambda: measured(
        lambda found, batch: {**found, "n": jnp.float32(batch.weight.size)}
    ),
    "report": lambda: head(report=lambda totals: {**HEAD.report(totals), "more": float("nan")}),
    "selection_direction": lambda: head(selection=("accuracy", "min")),
    "jit_equals_eager": lambda: head(
        loss=lambda o, b: HEAD.loss(o, b) * (1.5 if isinstance(o, jax.core.Tracer) else 1)
    ),
}
BROKEN = {"backbones": BACKBONES, "heads": HEADS}


@pytest.mark.parametrize("kind", BROKEN)
def test_sound_toy_passes(kind):
    assert failures(kind, {"backbones": lambda: ToyBackbone(), "heads": lambda: HEAD}[kind]) == {}


def test_sound_masked_toy_passes():
    assert failures("backbones", maskable) == {}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_check_has_a_toy_that_it_catches(kind):
    assert {f"check_{name}" for name in BROKEN[kind]} == set(checks(kind))


@pytest.mark.parametrize(
    ("kind", "check"), [(kind, check) for kind, toys in BROKEN.items() for check in toys]
)
def test_a_broken_toy_fails_its_own_check_alone(kind, check):
    found = failures(kind, BROKEN[kind][check])
    assert list(found) == [f"check_{check}"], found
