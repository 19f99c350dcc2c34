"""Masked prediction by networks that can be masked: SparK for ResNets, MAE for Vision
Transformers."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tlx_image import ImageInput
from tlx_image.pixels import normalize
from tlx_strategies import masking
from tlx_strategies.masked import Masked
from tlx_strategies.shown import shown

from tlx import registry
from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.protocols import Draws, SelfSupervised, Strategy
from tlx.testing.compiling import quick_jit
from tlx.trees import count, flat
from tlx.types import Batch, Constants, Variables

KEY = jax.random.key(0)
NOTHING = Constants({}, {}, {}, {})
PICTURES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)
SPEC = ImageInput(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), size=(16, 16))
STRATEGY = Masked(width=32)
TINY_VIT = {"size": 16, "patch": 4, "width": 32, "heads": 2, "depth": 2, "registers": 1}


@cache
def model(name):
    options = {"vit": TINY_VIT}.get(name, {})
    return Model(registry.build("backbones", name, options), None, SPEC)


NETWORKS = ["resnet20", "vit"]


def batch(image=PICTURES, index=None):
    size = len(image)
    numbers = jnp.arange(size) if index is None else jnp.asarray(index)
    return Batch({"image": jnp.asarray(image)}, {}, numbers, jnp.ones(size))


@cache
def start(name):
    made = quick_jit(model(name).init)(KEY, batch())
    own = STRATEGY.init(KEY, model(name), batch())
    return Variables({**made.params, "strategy": own.params}, {**made.state, "strategy": {}})


@cache
def jitted(name, mode):
    def run(variables, fed, rng):
        return STRATEGY.forward(
            model(name), variables, fed, NOTHING, rng=rng, mode=mode, progress=jnp.zeros(())
        )

    return quick_jit(run)


@cache
def guessing(name):
    def run(variables, fed):
        return STRATEGY._guess(model(name), variables, fed, KEY, "eval")

    return quick_jit(run)


@pytest.mark.parametrize(("name", "way", "seen"), [("resnet20", "maps", 6), ("vit", "tokens", 4)])
def test_each_network_has_its_way_and_its_share(name, way, seen):
    assert masking.way(model(name)) == way
    assert STRATEGY.notes(model(name)) == ()
    made = guessing(name)(start(name), batch())
    hidden = np.asarray(made.hidden)
    assert hidden.shape == (6, 4, 4)
    assert ((~hidden).sum((1, 2)) == seen).all()
    assert made.predicted.shape == (6, 16, 48)
    if way == "tokens":
        assert made.features["tokens"].shape == (6, 2 + seen, 32)
    else:
        there = np.asarray(made.features["stage3"]).any(-1)
        assert not there[hidden].any()
    for contract in (Strategy, SelfSupervised, Draws):
        assert isinstance(STRATEGY, contract)
    assert (STRATEGY.keeps, STRATEGY.trivial(8)) == ("best", 1.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_the_error_on_hidden_patches_by_hand(name):
    fed = batch()
    made = guessing(name)(start(name), fed)
    loss = jitted(name, "eval")(start(name), fed, KEY).loss
    seen = (PICTURES - np.asarray(SPEC.mean)) / np.asarray(SPEC.std)
    for number in range(6):
        errors = []
        for row in range(4):
            for column in range(4):
                if made.hidden[number, row, column]:
                    patch = seen[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                    target = (patch - patch.mean()) / np.sqrt(patch.var() + 1e-6)
                    guess = np.asarray(made.predicted[number, 4 * row + column]).reshape(4, 4, 3)
                    errors.append(np.square(guess - target).mean())
        np.testing.assert_allclose(loss[number], np.mean(errors), rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_that_is_hidden_has_a_slope(name):
    """The gradient of all that is predicted, and of the features, is 0 at hidden pixels."""
    made = guessing(name)(start(name), batch())
    deepest = "stage3" if name == "resnet20" else "tokens"

    def total(image):
        found = STRATEGY._guess(model(name), start(name), batch(image), KEY, "eval")
        return jnp.square(found.predicted).sum() + jnp.square(found.features[deepest]).sum()

    slope = np.asarray(quick_jit(jax.grad(total))(jnp.asarray(PICTURES)))
    hidden = np.asarray(made.hidden).repeat(4, 1).repeat(4, 2)
    assert not slope[hidden].any()
    assert slope[~hidden].all(axis=-1).mean() > 0.9


@pytest.mark.parametrize("name", NETWORKS)
def test_an_example_is_evaluated_alike_in_any_batch(name):
    run, numbers = jitted(name, "eval"), start(name)
    made = run(numbers, batch(), KEY)
    order = np.array([3, 0, 5, 1, 2, 4])
    again = run(numbers, batch(PICTURES[order], order), jax.random.key(9))
    np.testing.assert_allclose(again.loss, np.asarray(made.loss)[order], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, made.state, numbers.state)
    np.testing.assert_array_equal(made.inputs["image"], PICTURES)


def test_pictures_of_bytes_of_another_size_are_predicted_as_the_network_sees_them():
    grey = np.random.default_rng(1).integers(0, 256, (2, 10, 11, 1), np.uint8)
    fed = batch(grey)
    drawn = STRATEGY.draw(model("resnet20"), start("resnet20"), fed, rng=KEY)
    resized = jax.image.resize(grey / 255.0, (2, 16, 16, 1), "linear")
    np.testing.assert_allclose(drawn["original"], np.repeat(resized, 3, -1), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_show_what_was_seen_and_what_was_filled_in(name):
    fed, numbers = batch(), start(name)
    drawn = STRATEGY.draw(model(name), numbers, fed, rng=KEY)
    assert list(drawn) == ["original", "seen", "filled in"]
    made = guessing(name)(numbers, fed)
    hidden = np.asarray(made.hidden).repeat(4, 1).repeat(4, 2)
    original, seen, filled = map(np.asarray, drawn.values())
    np.testing.assert_allclose(original, PICTURES, atol=1e-6)
    np.testing.assert_array_equal(seen[~hidden], original[~hidden])
    np.testing.assert_array_equal(filled[~hidden], original[~hidden])
    assert (seen[hidden] == 0.5).all()
    number, row, column = np.argwhere(np.asarray(made.hidden))[0]
    place = (number, slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
    network = (PICTURES - np.asarray(SPEC.mean)) / np.asarray(SPEC.std)
    patch = network[place]
    guess = np.asarray(made.predicted[number, 4 * row + column]).reshape(4, 4, 3)
    wanted = (guess * np.sqrt(patch.var() + 1e-6) + patch.mean()) * SPEC.std + SPEC.mean
    np.testing.assert_allclose(filled[place], np.clip(wanted, 0, 1), atol=1e-4)


def test_blue_first_networks_and_ranges_are_shown_in_colour():
    spec = replace(SPEC, order="bgr", scale=255.0, mean=(104.0, 117.0, 123.0), std=(1.0,) * 3)
    np.testing.assert_allclose(shown(spec, normalize(spec, PICTURES)), PICTURES, atol=1e-5)
    grey = shown(ImageInput(channels=1, mean=(0.5,), std=(0.5,)), jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(grey, np.full((1, 2, 2, 3), 0.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "steps"),
    [("resnet20", 8, 40), ("vit", 16, 200)],
)
def test_it_learns_a_few_pictures_by_heart(name, side, steps):
    """Three pictures under changing masks; a guess without looking is at 1."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(side) * rng.uniform(0.2, 1, (8, 1)) + rng.uniform(0, 6, (8, 1)))[:3]
    image = waves[:, :, None, None] * waves[:, None, :, None] / 2 + np.full(3, 0.5)
    fed, strategy = batch(image.astype("f")), Masked(ratio=0.5, width=64)
    there = replace(model(name), inputs=replace(SPEC, size=(side, side)))
    tx = optax.adam(3e-3)

    @quick_jit
    def step(params, state, moments, key):
        def loss(params):
            made = strategy.forward(
                there, Variables(params, state), fed, NOTHING,
                rng=key, mode="train", progress=jnp.zeros(()),
            )  # fmt: skip
            return made.loss.mean(), made.state

        (value, state), slope = jax.value_and_grad(loss, has_aux=True)(params)
        change, moments = tx.update(slope, moments)
        return optax.apply_updates(params, change), state, moments, value

    params, state = start(name)
    own = strategy.init(KEY, there, fed)
    params = {**params, "strategy": own.params}
    moments, losses = tx.init(params), []
    for key in jax.random.split(KEY, steps):
        params, state, moments, value = step(params, state, moments, key)
        losses.append(float(value))
    assert losses[0] > 0.9
    assert np.mean(losses[-5:]) < 0.65, losses


def test_one_phase_trains_backbone_and_decoder():
    (phase,) = replace(STRATEGY, norm="frozen").phases(model("resnet20"), 5)
    assert (phase.steps, phase.norm) == (5, "frozen")
    made = start("vit").params
    assert {phase.group(path) for path in flat(made)} == {"backbone", "strategy"}
    assert count(made["strategy"]) < count(made["backbone"])


def test_refusals():
    resnet, vit = model("resnet20"), model("vit")
    with pytest.raises(ConfigError, match=r"patch = 8, but .* cells of 4 x 4"):
        Masked(patch=8).init(KEY, resnet, batch())
    Masked(patch=4).init(KEY, resnet, batch())
    with pytest.raises(ConfigError, match=r"width = 30 .* multiple of 4"):
        Masked(width=30).init(KEY, vit, batch())
    small = replace(resnet, inputs=replace(SPEC, size=None))
    with pytest.raises(DataError, match="nothing would be left"):
        STRATEGY.init(KEY, small, batch(PICTURES[:, :4, :4]))
    with pytest.raises(DataError, match="multiple of 4"):
        STRATEGY.init(KEY, small, batch(PICTURES[:, :10, :12]))
    with pytest.raises(ConfigError, match='head = "none"'):
        STRATEGY.phases(replace(resnet, head=object()), 1)
