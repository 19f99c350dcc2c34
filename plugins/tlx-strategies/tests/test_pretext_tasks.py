"""Rotation, jigsaw and inpainting: what is asked, what is scored, and that it is learnt."""

from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies import tiles
from tlx_strategies.inpainting import Inpainting
from tlx_strategies.jigsaw import Jigsaw
from tlx_strategies.permutations import distant
from tlx_strategies.rotation import Rotation

from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.protocols import Draws, SelfSupervised, Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat, groups
from tlx.types import Batch, Constants, FeatureSpec, Variables

KEY = jax.random.key(0)
BACKBONE = ToyBackbone(width=4, size=None, dropout=0.0)
MODEL = Model(BACKBONE, None, BACKBONE.inputs)
NOTHING = Constants({}, {}, {}, {})
PICTURES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)
TASKS = (Rotation(), Jigsaw(width=8), Inpainting(width=8))
each_task = pytest.mark.parametrize("strategy", TASKS, ids=lambda task: type(task).__name__)


def batch(image=PICTURES, index=None):
    count = len(image)
    numbers = jnp.arange(count) if index is None else jnp.asarray(index)
    targets = {"label": jnp.zeros(count, int)}
    return Batch({"image": jnp.asarray(image)}, targets, numbers, jnp.ones(count))


@cache
def start(strategy):
    fed = batch()
    made = quick_jit(MODEL.init)(KEY, fed)
    own = quick_jit(partial(strategy.init, model=MODEL, batch=fed))(KEY)
    return Variables({**made.params, "strategy": own.params}, {**made.state, "strategy": {}})


def plain(strategy, mode, variables, fed, rng, model=MODEL):
    return strategy.forward(
        model, variables, fed, NOTHING, rng=rng, mode=mode, progress=jnp.zeros(())
    )


@cache
def jitted(strategy, mode):
    return quick_jit(partial(plain, strategy, mode))


def forward(strategy, variables, fed, mode="eval", rng=KEY):
    return jitted(strategy, mode)(variables, fed, rng)


@cache
def looked():
    def look(variables, image):
        return MODEL.features(variables, batch(image), rng=KEY, mode="eval")[0]

    return quick_jit(look)


def cross_entropy(layers, x, answers):
    """Torch's, of the classifier written in torch."""
    x = torch.tensor(np.asarray(x))
    for number in range(1, len(layers) + 1):
        layer = {name: torch.tensor(np.asarray(a)) for name, a in layers[f"dense{number}"].items()}
        x = x @ layer["kernel"] + layer["bias"]
        x = torch.relu(x) if number < len(layers) else x
    answers = torch.tensor(np.asarray(answers), dtype=torch.long)
    return torch.nn.functional.cross_entropy(x, answers, reduction="none").numpy()


# --- what is asked ----------------------------------------------------------------------------


def test_every_picture_is_turned_into_all_four_positions():
    """Against numpy's turns, each fed by itself, and torch's cross-entropy."""
    variables = start(Rotation())
    made = forward(Rotation(), variables, batch())
    each = []
    for turns in range(4):
        image = np.stack([np.rot90(picture, turns) for picture in PICTURES])
        seen = looked()(variables, image)
        if turns == 0:
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), made.features, seen)
        answers = np.full(len(image), turns)
        each.append(cross_entropy(variables.params["strategy"], seen["pooled"], answers))
    np.testing.assert_allclose(made.loss, np.mean(each, 0), rtol=1e-5)
    np.testing.assert_array_equal(made.inputs["image"], PICTURES)


@pytest.mark.parametrize("strategy", [Jigsaw(width=8), Jigsaw(3, 30, width=8)])
def test_a_puzzle_is_the_tiles_in_one_of_the_orders(strategy):
    """And its loss is torch's cross-entropy, of every tile looked at by itself."""
    variables, fed = start(strategy), batch()
    for_puzzle = jax.random.split(KEY, 3)[0]
    cut, answers = quick_jit(partial(strategy.puzzle, MODEL, mode="eval"))(fed, rng=for_puzzle)
    assert len(set(np.asarray(answers).tolist())) > 1
    looks = [looked()(variables, cut[:, n])["pooled"] for n in range(strategy.grid**2)]
    expected = cross_entropy(variables.params["strategy"], np.concatenate(looks, -1), answers)
    made = forward(strategy, variables, fed)
    np.testing.assert_allclose(made.loss, expected, rtol=1e-4)
    np.testing.assert_array_equal(made.inputs["image"], PICTURES)
    whole = looked()(variables, PICTURES)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), made.features, whole)


def test_the_order_of_a_puzzle_is_the_permutation_it_names(monkeypatch):
    """Tiles that are numbered come in the order that the answer says."""
    monkeypatch.setattr(tiles, "evened", lambda cut: cut)
    place = np.arange(16) // 8
    numbered = np.broadcast_to((place[:, None] * 2 + place)[..., None] / 10, (6, 16, 16, 3))
    fed = batch(numbered.astype(np.float32))
    cut, answers = quick_jit(partial(Jigsaw().puzzle, MODEL, mode="train"))(fed, rng=KEY)
    np.testing.assert_allclose(cut[:, :, 0, 0, 0] * 10, distant(4, 24)[answers], rtol=1e-5)


def test_tiles_are_as_large_as_in_the_picture_unless_the_network_has_a_fixed_size():
    strategy, fed = Jigsaw(width=8), batch()
    for fixed, side in ((False, 14), (True, 32)):
        model = replace(MODEL, inputs=replace(MODEL.inputs, size=(32, 32), fixed=fixed))
        cut, _ = jax.eval_shape(partial(strategy.puzzle, model, mode="train"), fed, rng=KEY)
        assert cut.shape == (6, 4, 14, 14, 3)
        shapes = []
        spied = replace(model, backbone=Spy(shapes))
        jax.eval_shape(partial(plain, strategy, "train", model=spied), start(strategy), fed, KEY)
        assert shapes == [(24, side, side, 3), (6, 32, 32, 3)]


def test_the_second_look_at_whole_pictures_is_left_out_where_nobody_asks():
    strategy = Jigsaw(width=8)
    arguments = (start(strategy), batch(), KEY)

    def work(keep):
        made = jax.jit(lambda *a: keep(plain(strategy, "train", *a))).lower(*arguments).compile()
        return made.cost_analysis()["flops"]

    assert work(lambda f: (f.loss, f.state)) < 0.7 * work(lambda f: (f.loss, f.state, f.features))


def test_a_hole_cannot_be_seen():
    """Changing hidden pixels changes neither what is fed nor the features."""
    strategy = Inpainting(width=8)
    variables = start(strategy)
    made = forward(strategy, variables, batch(), "train")
    hole = (np.asarray(made.inputs["image"]) != PICTURES).any(-1)
    assert (hole.sum((1, 2)) == 64).all()
    assert (hole.any(1).sum(1) == 8).all()
    assert len({one.tobytes() for one in hole}) > 1
    other = forward(
        strategy, variables, batch(np.where(hole[..., None], 1 - PICTURES**2, PICTURES)), "train"
    )
    np.testing.assert_array_equal(made.inputs["image"], other.inputs["image"])
    jax.tree.map(np.testing.assert_array_equal, made.features, other.features)
    assert (np.asarray(made.loss) != np.asarray(other.loss)).all()
    for seen, picture, where in zip(np.asarray(made.inputs["image"]), PICTURES, hole, strict=True):
        paint = np.broadcast_to(picture[~where].mean(0), seen[where].shape)
        np.testing.assert_allclose(seen[where], paint, rtol=1e-5)
    centre = Inpainting(side=0.25, place="centre")
    hidden = quick_jit(lambda fed: centre.holed(fed, rng=KEY, mode="train").hidden)(batch())
    expected = np.zeros((16, 16), bool)
    expected[6:10, 6:10] = True
    np.testing.assert_array_equal(hidden[..., 0], np.broadcast_to(expected, (6, 16, 16)))


def test_the_error_of_a_hole_is_relative_to_that_of_the_mean_colour(monkeypatch):
    strategy = Inpainting(width=8)
    variables = start(strategy)
    for_hole = jax.random.split(KEY)[0]
    holed = quick_jit(partial(strategy.holed, mode="train"))(batch(), rng=for_hole)
    drawn = np.random.default_rng(3).normal(size=PICTURES.shape).astype(np.float32)
    monkeypatch.setattr("tlx_strategies.decoder.apply", lambda *_: jnp.asarray(drawn))
    made = quick_jit(partial(plain, strategy, "train"))(variables, batch(), KEY)
    for n, loss in enumerate(np.asarray(made.loss)):
        where = torch.tensor(np.asarray(holed.hidden[n, ..., 0]))
        x = torch.tensor(PICTURES[n])
        far = x[where] - x[~where].mean(0)
        unit = far.square().mean().sqrt()
        expected = torch.nn.functional.mse_loss(torch.tensor(drawn[n])[where], far / unit)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
    monkeypatch.setattr("tlx_strategies.decoder.apply", lambda *_: jnp.zeros(PICTURES.shape))
    blind = quick_jit(partial(plain, strategy, "train"))(variables, batch(), KEY).loss
    np.testing.assert_allclose(blind, strategy.trivial(6), rtol=1e-4)


def test_flat_pictures_have_a_finite_gradient():
    strategy = Inpainting(width=8)
    params, state = start(strategy)
    fed = batch(np.full((2, 16, 16, 3), 0.3, np.float32))

    def loss(params):
        return plain(strategy, "train", Variables(params, state), fed, KEY).loss.sum()

    slope = jax.grad(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(quick_jit(slope)(params)))


# --- what holds for all -----------------------------------------------------------------------


@each_task
def test_evaluation_asks_the_same_of_an_example_in_any_batch(strategy):
    variables = start(strategy)
    made = forward(strategy, variables, batch())
    order = np.array([3, 0, 5])
    again = forward(strategy, variables, batch(PICTURES[order], order), rng=jax.random.key(9))
    np.testing.assert_allclose(again.loss, np.asarray(made.loss)[order], rtol=1e-5)
    np.testing.assert_allclose(
        again.inputs["image"], np.asarray(made.inputs["image"])[order], rtol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, made.state, variables.state)
    trained = forward(strategy, variables, batch(), "train")
    assert (np.asarray(trained.state["backbone"]["stage1"]["mean"]) != 0).any()


@each_task
def test_the_trivial_loss_is_that_of_features_without_content(strategy):
    """A network that says the same of every picture is there at best, and not below."""
    params, state = start(strategy)
    blank = {**params, "backbone": jax.tree.map(jnp.zeros_like, params["backbone"])}
    silent = {**blank, "strategy": jax.tree.map(jnp.zeros_like, params["strategy"])}
    losses = forward(strategy, Variables(silent, state), batch()).loss
    np.testing.assert_allclose(losses, strategy.trivial(6), rtol=1e-4)
    many = batch(np.tile(PICTURES, (8, 1, 1, 1)))
    biased = forward(strategy, Variables(blank, state), many).loss
    assert biased.mean() > strategy.trivial(48) - 0.02


@each_task
def test_phase(strategy):
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, SelfSupervised)
    assert isinstance(strategy, Draws)
    assert strategy.keeps == "best"
    frozen = replace(strategy, norm="frozen")
    (phase,) = frozen.phases(MODEL, 7)
    assert (phase.steps, phase.norm) == (7, "frozen")
    assert set(flat(groups(start(strategy).params, phase.group)).values()) == {
        "backbone",
        "strategy",
    }
    with pytest.raises(ConfigError, match='head = "none"'):
        strategy.phases(replace(MODEL, head=object()), 1)


def test_pictures_for_people():
    """Turned pictures are turned, tiles are there, and a filled hole changes nothing around it."""
    fed = batch()

    def drew(strategy):
        return quick_jit(partial(strategy.draw, MODEL))(start(strategy), fed, rng=KEY)

    drawn = drew(Rotation())
    for seen, picture in zip(np.asarray(drawn["seen"]), PICTURES, strict=True):
        assert any(np.array_equal(seen, np.rot90(picture, turns)) for turns in range(4))
    assert (np.asarray(drawn["seen"]) != PICTURES).any()
    drawn = drew(Jigsaw(width=8))
    assert drawn["seen"].shape == (6, 18, 18, 3)
    drawn = drew(Inpainting(width=8))
    hole = (np.asarray(drawn["seen"]) != PICTURES).any(-1)
    filled = np.asarray(drawn["filled in"])
    np.testing.assert_array_equal(filled[~hole], PICTURES[~hole])
    assert (filled != np.asarray(drawn["seen"]))[hole].mean() > 0.9


def lit_from_above():
    """Bright at the top, dark at the bottom, and noise."""
    light = np.linspace(1, 0, 16)[None, :, None, None]
    return (0.7 * light + 0.3 * np.random.default_rng(0).random((16, 16, 16, 3))).astype(np.float32)


def quarters():
    """Each quarter has a texture of its own: lines across, lines down, dots, nothing but noise."""
    row, column = np.mgrid[:8, :8] % 2
    parts = np.stack([row, column, row * column, 0 * row + 0.5])
    picture = parts.reshape(2, 2, 8, 8).transpose(0, 2, 1, 3).reshape(16, 16)[None, ..., None]
    noise = np.random.default_rng(1).random((16, 16, 16, 3))
    return (0.8 * picture + 0.2 * noise).astype(np.float32)


def stripes():
    """They go on behind the hole."""
    shift = np.random.default_rng(2).random((16, 1, 1, 1)) * 6
    waves = np.sin(np.arange(16)[None, None, :, None] * np.pi / 4 + shift)
    return np.broadcast_to(waves / 2 + 0.5, (16, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("strategy", "image", "rate", "below"),
    [
        pytest.param(Rotation(), lit_from_above(), 0.3, 0.6, marks=pytest.mark.slow),
        (Jigsaw(permutations=6, width=16), quarters(), 0.1, 0.6),
        pytest.param(Inpainting(side=0.3, width=8), stripes(), 0.03, 0.7, marks=pytest.mark.slow),
    ],
    ids=["rotation", "jigsaw", "inpainting"],
)
def test_it_is_learnt(strategy, image, rate, below):
    """To a share `below` of the loss without looking, by plain descent with momentum."""
    fed = batch(image)
    made, own = quick_jit(MODEL.init)(KEY, fed), strategy.init(KEY, MODEL, fed)
    params, state = {**made.params, "strategy": own.params}, {**made.state, "strategy": {}}

    def descend(carry, key):
        params, speed, state = carry

        def loss(params):
            made = plain(strategy, "train", Variables(params, state), fed, key)
            return made.loss.mean(), made.state

        (value, state), slope = jax.value_and_grad(loss, has_aux=True)(params)
        speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, slope)
        params = jax.tree.map(lambda p, v: p - rate * v, params, speed)
        return (params, speed, state), value

    carry = (params, jax.tree.map(jnp.zeros_like, params), state)
    _, losses = jax.lax.scan(descend, carry, jax.random.split(KEY, 80))
    assert losses[0] > 0.9 * strategy.trivial(16)
    assert losses[-10:].mean() < below * strategy.trivial(16)


# --- refusals ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spy:
    """A backbone that notes the shapes it is fed."""

    shapes: list

    inputs = BACKBONE.inputs
    features = BACKBONE.features

    def apply(self, params, state, x, *, rng, mode):
        self.shapes.append(x.shape)
        return BACKBONE.apply(params, state, x, rng=rng, mode=mode)


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
    with pytest.raises(DataError, match=r"must be square; these are 16 x 12.*\[12, 12\]"):
        Rotation().init(KEY, MODEL, batch(PICTURES[:, :, :12]))
    with pytest.raises(DataError, match="4 x 4 pixels are too small for 3 x 3 tiles"):
        Jigsaw(grid=3).init(KEY, MODEL, batch(PICTURES[:, :4, :4]))
    with pytest.raises(ConfigError, match="this backbone has none"):
        Inpainting().init(KEY, replace(MODEL, backbone=Flat()), batch())
    for factory, options in (
        (Jigsaw, {"grid": 4}),
        (Jigsaw, {"permutations": 25}),
        (Jigsaw, {"permutations": 1, "grid": 3}),
        (Jigsaw, {"gap": 1.0}),
        (Jigsaw, {"width": 0}),
        (Inpainting, {"side": 1.0}),
        (Inpainting, {"width": 0}),
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            factory(**options)
