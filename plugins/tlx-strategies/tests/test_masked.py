"""Masked pre-training by painting over the input: what is hidden, what is scored, and that it
learns."""

from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies import patches
from tlx_strategies.masked import Masked

from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.protocols import Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat, groups
from tlx.types import Batch, Constants, FeatureSpec, Variables

KEY = jax.random.key(0)
BACKBONE = ToyBackbone(width=4, size=None, dropout=0.0)
MODEL = Model(BACKBONE, None, BACKBONE.inputs)
NOTHING = Constants({}, {}, {}, {})
PICTURES = np.random.default_rng(0).random((6, 16, 24, 3)).astype(np.float32)


def batch(image=PICTURES, index=None):
    count = len(image)
    numbers = jnp.arange(count) if index is None else jnp.asarray(index)
    targets = {"label": jnp.zeros(count, int)}
    return Batch({"image": jnp.asarray(image)}, targets, numbers, jnp.ones(count))


def start(strategy, fed):
    made = quick_jit(MODEL.init)(KEY, fed)
    own = strategy.init(KEY, MODEL, fed)
    return Variables({**made.params, "strategy": own.params}, {**made.state, "strategy": {}})


def plain(strategy, mode, variables, fed, rng):
    return strategy.forward(
        MODEL, variables, fed, NOTHING, rng=rng, mode=mode, progress=jnp.zeros(())
    )


@cache
def jitted(strategy, mode):
    return quick_jit(partial(plain, strategy, mode))


def forward(strategy, variables, fed, mode="train", rng=KEY):
    return jitted(strategy, mode)(variables, fed, rng)


def test_a_network_that_cannot_be_masked_says_what_is_done_instead():
    (note,) = Masked().notes(MODEL)
    assert "painted over" in note


def test_patches_are_squares_row_by_row():
    picture = np.arange(16 * 24 * 3).reshape(1, 16, 24, 3)
    cut = np.asarray(patches.cut(jnp.asarray(picture), 8))
    assert cut.shape == (1, 6, 192)
    np.testing.assert_array_equal(cut[0, 4].reshape(8, 8, 3), picture[0, 8:, 8:16])
    np.testing.assert_array_equal(patches.laid(jnp.asarray(cut), 8, picture.shape), picture)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.6, 0.99])
def test_the_right_share_is_hidden_and_the_key_decides(ratio):
    keys = jax.random.split(KEY, 50)
    hidden = np.asarray(patches.hide(keys, 24, ratio))
    assert (hidden.sum(1) == min(max(round(ratio * 24), 1), 23)).all()
    np.testing.assert_array_equal(hidden, patches.hide(keys, 24, ratio))
    assert len({row.tobytes() for row in hidden}) > 10
    assert hidden.any(0).all() or ratio < 0.1  # every place is hidden at times


def test_hidden_pixels_are_the_mean_of_the_visible_ones():
    hidden = patches.hide(jax.random.split(KEY, 6), 6, 0.5)
    pixels = np.asarray(patches.spread(hidden, 8, (16, 24)))[..., 0]
    np.testing.assert_array_equal(
        patches.cut(jnp.asarray(pixels[..., None]), 8).mean(-1), np.asarray(hidden, float)
    )
    seen = np.asarray(patches.blank(jnp.asarray(PICTURES), jnp.asarray(pixels[..., None])))
    for before, after, mask in zip(PICTURES, seen, pixels, strict=True):
        np.testing.assert_array_equal(after[~mask], before[~mask])
        expected = np.broadcast_to(before[~mask].mean(0), after[mask].shape)
        np.testing.assert_allclose(after[mask], expected, rtol=1e-5)


def test_the_error_is_that_of_hidden_patches_alone():
    target = patches.contrast(patches.cut(jnp.asarray(PICTURES), 8))
    hidden = patches.hide(jax.random.split(KEY, 6), 6, 0.6)
    np.testing.assert_allclose(target.mean(-1), np.zeros((6, 6)), atol=1e-5)
    np.testing.assert_allclose(target.var(-1), np.ones((6, 6)), rtol=1e-3)
    guess = jax.random.normal(KEY, target.shape)
    error = patches.hidden_error(guess, target, hidden)
    loud = jnp.where(hidden[..., None], guess, 1e6)
    np.testing.assert_array_equal(patches.hidden_error(loud, target, hidden), error)
    by_hand = [
        np.square(np.asarray(g - t))[np.asarray(h)].mean()
        for g, t, h in zip(guess, target, hidden, strict=True)
    ]
    np.testing.assert_allclose(error, by_hand, rtol=1e-5)
    np.testing.assert_array_equal(patches.hidden_error(target, target, hidden), np.zeros(6))
    nothing = patches.hidden_error(jnp.zeros_like(target), target, hidden)
    np.testing.assert_allclose(nothing, np.ones(6), rtol=1e-3)
    flat_picture = patches.contrast(patches.cut(jnp.ones((1, 16, 24, 3)), 8))
    np.testing.assert_array_equal(flat_picture, np.zeros_like(flat_picture))


def test_the_network_sees_nothing_of_what_is_hidden():
    """Changing hidden pixels changes neither what is fed nor the features."""
    strategy = Masked(patch=8)
    variables = start(strategy, batch())
    made = forward(strategy, variables, batch())
    pixels = np.asarray(made.inputs["image"]) != PICTURES
    other = np.where(pixels.any(-1, keepdims=True), 1 - PICTURES, PICTURES)
    again = forward(strategy, variables, batch(other))
    np.testing.assert_array_equal(made.inputs["image"], again.inputs["image"])
    jax.tree.map(np.testing.assert_array_equal, made.features, again.features)
    assert (np.asarray(made.loss) != np.asarray(again.loss)).all()


def test_evaluation_hides_the_same_patches_of_an_example_in_any_batch():
    strategy = Masked(patch=8)
    variables = start(strategy, batch())
    made = forward(strategy, variables, batch(), mode="eval")
    order = np.array([3, 0, 5])
    again = forward(
        strategy, variables, batch(PICTURES[order], order), mode="eval", rng=jax.random.key(9)
    )
    np.testing.assert_allclose(
        again.inputs["image"], np.asarray(made.inputs["image"])[order], rtol=1e-5
    )
    np.testing.assert_allclose(again.loss, np.asarray(made.loss)[order], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, made.state, variables.state)
    trained = forward(strategy, variables, batch(), rng=jax.random.key(9))
    assert (np.asarray(trained.inputs["image"]) != np.asarray(made.inputs["image"])).any()
    moved = trained.state["backbone"]["stage1"]["mean"]
    assert (np.asarray(moved) != 0).any()


def test_pictures_of_bytes_are_the_same_as_of_fractions():
    bytes_ = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    strategy = Masked(patch=4)
    variables = start(strategy, batch(bytes_))
    ours = forward(strategy, variables, batch(bytes_))
    theirs = forward(strategy, variables, batch(bytes_.astype(np.float32) / 255))
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-5)


def test_phase():
    strategy = Masked(norm="frozen")
    assert isinstance(strategy, Strategy)
    (phase,) = strategy.phases(MODEL, 7)
    assert (phase.steps, phase.norm) == (7, "frozen")
    sent = flat(groups(start(Masked(patch=8), batch()).params, phase.group))
    assert set(sent.values()) == {"backbone", "strategy"}
    assert phase == strategy.phases(MODEL, 7)[0]


@pytest.mark.slow
def test_it_learns_to_draw_what_it_cannot_see():
    """Stripes go on behind the mask; a guess without looking is at 1."""
    strategy = Masked(ratio=0.5, patch=4, width=8)
    rng = np.random.default_rng(0)
    phase = rng.random((16, 1, 1, 1)) * 6
    stripes = np.sin(np.arange(16)[None, None, :, None] * np.pi / 4 + phase)
    image = np.broadcast_to(stripes / 2 + 0.5, (16, 16, 16, 3)).astype(np.float32)
    fed = batch(image)
    params, state = start(strategy, fed)

    def descend(carry, key):
        params, speed, state = carry

        def loss(params):
            made = plain(strategy, "train", Variables(params, state), fed, key)
            return made.loss.mean(), made.state

        (value, state), slope = jax.value_and_grad(loss, has_aux=True)(params)
        speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, slope)
        params = jax.tree.map(lambda p, v: p - 0.03 * v, params, speed)
        return (params, speed, state), value

    carry = (params, jax.tree.map(jnp.zeros_like, params), state)
    _, losses = jax.lax.scan(descend, carry, jax.random.split(KEY, 200))
    assert losses[0] > 0.9
    assert losses[-20:].mean() < 0.7


@dataclass(frozen=True)
class Flat:
    """A backbone without a map."""

    inputs = BACKBONE.inputs
    features = (FeatureSpec("pooled", "vector", 3),)

    def init(self, rng, x):
        return Variables({}, {})

    def apply(self, params, state, x, *, rng, mode):
        return {"pooled": x.mean((1, 2))}, state


def test_refusals():
    for options in ({"ratio": 0.0}, {"ratio": 1.0}, {"patch": 0}, {"width": 0}, {"depth": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Masked(**options)
    with pytest.raises(DataError, match=r"16 x 24 .* one of: 1, 2, 4, 8\."):
        Masked(patch=5).init(KEY, MODEL, batch())
    with pytest.raises(DataError, match="one of: 1, 2, 4"):
        Masked(patch=8).init(KEY, MODEL, batch(PICTURES[:, :8, :8]))
    with pytest.raises(ConfigError, match="this backbone has none"):
        Masked().init(KEY, replace(MODEL, backbone=Flat()), batch())
    with pytest.raises(ConfigError, match='head = "none"'):
        Masked().phases(replace(MODEL, head=object()), 1)
