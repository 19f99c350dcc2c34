"""DINO: its cross-entropy against loops in PyTorch, the centre, the temperatures, the crops."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_image import ImageInput
from tlx_strategies.dino import assigned, cross_entropy, dino
from torch.nn import functional

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.types import Batch, Constants, Variables, unlabelled

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
BACKBONE = ToyBackbone(width=2, size=None, dropout=0.0)
MODEL = Model(BACKBONE, None, BACKBONE.inputs)
IMAGE = jnp.asarray(RNG.random((4, 14, 21, 3)), jnp.float32)
BATCH = Batch({"image": IMAGE}, {}, jnp.arange(4), jnp.asarray([1.0, 1.0, 1.0, 0.0]))
OPTIONS = {"prototypes": 5, "projector": (6, 4), "views": ("flip",), "local_views": ("crop",)}


def loss_of(student, teacher):
    """Every view of the student against every other view that the teacher has seen."""
    found = [
        -(functional.softmax(t, -1) * functional.log_softmax(s, -1)).sum(-1)
        for i, t in enumerate(teacher)
        for j, s in enumerate(student)
        if i != j
    ]
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("count", [2, 5])
def test_loss_and_gradient_agree_with_pytorch(count):
    student = RNG.normal(size=(count, 3, 7)).astype(np.float32)
    teacher = RNG.normal(size=(2, 3, 7)).astype(np.float32)
    theirs = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    expected = loss_of(theirs, torch.tensor(teacher, dtype=torch.float64))
    expected.sum().backward()
    np.testing.assert_allclose(cross_entropy(student, teacher), expected.detach(), rtol=1e-5)
    slope, none = jax.grad(lambda s, t: cross_entropy(s, t).sum(), (0, 1))(student, teacher)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-4, atol=1e-6)
    assert not np.asarray(none).any()


def test_prototypes_have_length_one():
    z, kernel = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(4, 7))
    expected = functional.linear(
        functional.normalize(torch.tensor(z), dim=-1),
        functional.normalize(torch.tensor(kernel.T), dim=1),
    )
    np.testing.assert_allclose(assigned({"kernel": kernel}, z), expected, rtol=1e-5)


def test_answers_that_are_the_same_everywhere_have_the_trivial_loss():
    nothing = cross_entropy(jnp.zeros((4, 3, 5)), jnp.zeros((2, 3, 5)))
    np.testing.assert_allclose(nothing, np.full(3, dino(prototypes=5).trivial(3)), rtol=1e-6)


def start(strategy):
    made = quick_jit(MODEL.init)(KEY, BATCH)
    own = strategy.init(jax.random.key(1), MODEL, BATCH)
    params = {**made.params, "strategy": own.params}
    return Variables(params, strategy.begin(params, {**made.state, "strategy": own.state}))


def forward(strategy, variables, *, mode="train"):
    def run(variables):
        made = strategy.forward(
            MODEL, variables, BATCH, Constants({}, {}, {}, {}),
            rng=KEY, mode=mode, progress=jnp.zeros(()),
        )  # fmt: skip
        return made.loss, made.state, made.features

    return quick_jit(run)(variables)


def test_the_centre_follows_the_teachers_answers_for_real_pictures():
    strategy = dino(**OPTIONS, local=0)
    variables = start(strategy)
    _, state, _ = forward(strategy, variables)
    views = strategy.views.draw(BATCH, jax.random.split(KEY, 4)[0], "train")
    teacher = variables.state["strategy"]["teacher"]
    z = reference_embedding(teacher, views)
    answers = np.asarray(assigned(teacher["params"]["strategy"]["prototypes"], z))
    expected = 0.1 * answers[:, :3].reshape(-1, 5).mean(0)
    np.testing.assert_allclose(state["strategy"]["centre"], expected, rtol=1e-4, atol=1e-6)
    evaluated = forward(strategy, variables, mode="eval")[1]
    jax.tree.map(np.testing.assert_array_equal, evaluated, variables.state)


def test_running_statistics_go_through_large_and_small_crops():
    """Each pass keeps a share m of what the statistics were, so two keep m^2 of it."""
    strategy = dino(**OPTIONS, local=2)
    begun = start(strategy)
    moved = jax.tree.map(lambda leaf: leaf + 1.0, begun.state["backbone"])
    later = begun._replace(state={**begun.state, "backbone": moved})
    one, other = (forward(strategy, each)[1]["backbone"] for each in (begun, later))
    for first, second in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(second - first, BACKBONE.momentum**2, rtol=1e-4)


def reference_embedding(teacher, views):
    """The teacher's projections of real pictures, by PyTorch, from the toy network's features."""
    image = views.swapaxes(0, 1).reshape(-1, *views.shape[2:])
    run = quick_jit(partial(MODEL.features, rng=KEY, mode="train"))
    numbers = Variables(teacher["params"], teacher["state"])
    features, _ = run(numbers, unlabelled({"image": image}))
    pooled = torch.tensor(np.asarray(features["pooled"])).reshape(4, 2, -1)
    kernels = teacher["params"]["strategy"]["projector"]
    x = pooled @ torch.tensor(np.asarray(kernels["dense0"]["kernel"]))
    mean, var = x[:3].mean((0, 1)), x[:3].var((0, 1), unbiased=False)
    x = functional.relu((x - mean) / torch.sqrt(var + 1e-5))
    return (x @ torch.tensor(np.asarray(kernels["dense1"]["kernel"]))).numpy().swapaxes(0, 1)


def test_small_crops_are_small_unless_the_network_takes_one_size():
    strategy = dino(**OPTIONS, local=3)
    crops = strategy.local_views.draw(BATCH, KEY, "train")
    assert crops.shape == (3, 4, 14, 21, 3)
    for spec, local_size, size in [
        (ImageInput(), None, (6, 9)),
        (ImageInput(size=(28, 28)), None, (12, 12)),
        (ImageInput(), 5, (5, 5)),
        (ImageInput(size=(28, 28), fixed=True), None, (14, 21)),
    ]:
        model = replace(MODEL, inputs=spec)
        small, taker = replace(strategy, local_size=local_size).shrunk(model, crops)
        assert small.shape == (3, 4, *size, 3)
        assert taker.inputs.size == (spec.size if spec.fixed else None)
    variables = start(strategy)
    loss, _, features = forward(strategy, variables)
    assert features["stage1"].shape == (4, 14, 21, 2)
    without, _, _ = forward(dino(**OPTIONS, local=0), variables)
    assert (np.asarray(loss) != np.asarray(without)).all()


def test_the_teachers_temperature_rises_over_the_warmup():
    warm = dino(warmup=0.5, warmup_temperature=0.02, teacher_temperature=0.06)
    for progress, temperature in [(0.0, 0.02), (0.25, 0.04), (0.5, 0.06), (0.9, 0.06)]:
        np.testing.assert_allclose(warm.sharpness(progress), temperature, rtol=1e-6)
    assert dino().sharpness(0.0) == np.float32(0.04)


def test_refusals():
    for options in (
        {"prototypes": 1}, {"local": -1}, {"local_size": 0}, {"student_temperature": 0.0},
        {"teacher_temperature": -1.0}, {"warmup": 2.0}, {"centre_momentum": -0.1},
        {"momentum": 1.5}, {"projector": (3,)},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(options))):
            dino(**options)
