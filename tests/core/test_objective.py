"""The objective adds what it should, and computes nothing that nobody asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import ImageInput

from tlx.contracts.input import ports_of
from tlx.model import Model
from tlx.objective import Objective, Term, augmented
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.types import Batch, Constants, Variables

PORTS = ports_of(ImageInput())


@pytest.fixture(scope="module")
def model():
    backbone = ToyBackbone()
    return Model(backbone, build("heads", "softmax", {"classes": 3}), backbone.inputs)


@pytest.fixture(scope="module")
def batch():
    image = jax.random.randint(jax.random.key(1), (6, 8, 8, 3), 0, 256).astype(jnp.uint8)
    weight = jnp.array([1.0, 1, 1, 1, 0, 0])
    return Batch({"image": image}, {"label": jnp.arange(6) % 3}, jnp.arange(6), weight)


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


def constants(source=None, **weights):
    hyper = {"divergence": {name: jnp.float32(w) for name, w in weights.items()}}
    return Constants({"source": source} if source else {}, {}, {}, hyper)


def call(objective, variables, batch, constants, mode="eval"):
    return objective(
        *variables, batch, constants, rng=jax.random.key(0), progress=jnp.float32(0.5), mode=mode
    )


def test_padding_does_not_count(model, batch):
    variables = model.init(jax.random.key(0), batch)
    loss, _ = call(Objective(model, supervised), variables, batch, constants())
    alone = jax.tree.map(lambda leaf: leaf[:4], batch)
    assert loss == pytest.approx(
        float(call(Objective(model, supervised), variables, alone, constants())[0]), rel=1e-6
    )


def test_adds_weighted_divergences_and_logs_both(model, batch):
    def one(*, progress):
        return progress * 4

    def two(*, outputs):
        return jnp.mean(outputs**2)

    variables = model.init(jax.random.key(0), batch)
    objective = Objective(model, supervised, (Term("a", one), Term("b", two)))
    loss, (_, metrics) = call(objective, variables, batch, constants(a=0.5, b=3.0))
    assert metrics["divergence/a"] == 2
    assert metrics["divergence/a/weighted"] == 1
    expected = metrics["task"] + 1 + 3 * metrics["divergence/b"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics["loss"] == loss


def test_every_source_word_is_what_it_says(model, batch):
    variables = model.init(jax.random.key(0), batch)
    source = model.init(jax.random.key(7), batch)
    seen = {}

    def spy(
        *, params, head_params, features, outputs, source_params, source_features,
        source_outputs, source_head_outputs,
    ):  # fmt: skip
        seen.update(locals())
        return jnp.float32(0)

    objective = Objective(model, supervised, (Term("spy", spy),), (("source", model),))
    call(objective, variables, batch, constants(Variables(*source), spy=1.0))
    there = model.apply(source, batch, rng=jax.random.key(0), mode="eval")
    here = model.apply(variables, batch, rng=jax.random.key(0), mode="eval")
    assert seen["params"] is variables.params["backbone"]
    assert seen["head_params"] is variables.params["head"]
    assert seen["source_params"] is source.params["backbone"]
    np.testing.assert_array_equal(seen["source_outputs"], there.outputs)
    np.testing.assert_array_equal(seen["outputs"], here.outputs)
    for name in there.features:
        np.testing.assert_array_equal(seen["source_features"][name], there.features[name])
    crossed, _ = model.apply_head(
        source, here.features, inputs=batch.inputs, rng=jax.random.key(0), mode="eval"
    )
    np.testing.assert_array_equal(seen["source_head_outputs"], crossed)


def test_the_source_is_not_differentiated(model, batch):
    variables = model.init(jax.random.key(0), batch)

    def pull(*, features, source_features):
        return jnp.mean((features["pooled"] - source_features["pooled"]) ** 2)

    objective = Objective(model, supervised, (Term("pull", pull),), (("source", model),))

    def of_source(source):
        return call(objective, variables, batch, constants(source, pull=1.0))[0]

    other = model.init(jax.random.key(3), batch)
    gradient = jax.grad(lambda params: of_source(Variables(params, other.state)))(other.params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def test_what_nobody_asks_for_is_not_computed(model, batch):
    """A divergence of parameters must not bring the source's forward pass into the program."""
    variables = model.init(jax.random.key(0), batch)
    source = model.init(jax.random.key(3), batch)

    def params_only(*, params, source_params):
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(source_params), strict=True)
        return sum(jnp.sum((a - b) ** 2) for a, b in pairs)

    def with_features(*, features, source_features):
        return jnp.mean((features["pooled"] - source_features["pooled"]) ** 2)

    def convolutions(divergence):
        objective = Objective(model, supervised, (Term("d", divergence),), (("source", model),))
        run = jax.jit(lambda v, s: call(objective, v, batch, constants(s, d=1.0))[0])
        return run.lower(variables, source).as_text().count("stablehlo.convolution")

    plain = jax.jit(lambda v: call(Objective(model, supervised), v, batch, constants())[0])
    assert convolutions(params_only) == plain.lower(variables).as_text().count(
        "stablehlo.convolution"
    )
    assert convolutions(with_features) == 2 * convolutions(params_only)


def test_augmentation_is_for_training_only_and_seeded(batch):
    def noise(rng, image):
        return jax.random.uniform(rng, image.shape)

    one = augmented((noise,), batch, jax.random.key(1), PORTS).inputs["image"]
    again = augmented((noise,), batch, jax.random.key(1), PORTS).inputs["image"]
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one[0], one[1]), "every picture has a key of its own"
    assert one.dtype == jnp.float32
    assert augmented((), batch, jax.random.key(1), PORTS).inputs["image"].dtype == jnp.uint8
