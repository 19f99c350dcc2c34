"""The diagonal of the Fisher information against torch, example by example, and against the
formula of logistic regression."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_divergences.fisher import Fisher
from tlx_image import ImageInput

from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import Batch, FeatureSpec, Network, Variables

RNG = np.random.default_rng(0)
CLASSES = 4
KEY = jax.random.key(0)


@dataclass(frozen=True)
class Convolution:
    """3x3 convolution, tanh, mean over positions: smooth, and small enough for torch in a loop."""

    inputs: ImageInput = field(default_factory=ImageInput)
    features: tuple[FeatureSpec, ...] = (FeatureSpec("pooled", "vector", 5),)

    def apply(self, params, state, x, *, rng, mode):
        assert mode == "eval"
        x = jax.lax.conv_general_dilated(
            x, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return {"pooled": jnp.tanh(x + params["bias"]).mean((1, 2))}, state


@dataclass(frozen=True)
class Line:
    """Pixels times a matrix plus a bias: with a head that passes it on, logistic regression."""

    inputs: ImageInput = field(default_factory=ImageInput)
    features: tuple[FeatureSpec, ...] = (FeatureSpec("pooled", "vector", CLASSES),)

    def apply(self, params, state, x, *, rng, mode):
        return {"pooled": x.reshape(len(x), -1) @ params["kernel"] + params["bias"]}, state


def a_batch(n, size=5):
    image = jnp.asarray(RNG.random((n, size, size, 3)), jnp.float32)
    label = jnp.asarray(RNG.integers(0, CLASSES, n))
    return Batch({"image": image}, {"label": label}, jnp.arange(n) + 100, jnp.ones(n))


def rows(batch, part):
    """Those examples of a batch."""
    return jax.tree.map(lambda leaf: leaf[part], batch)


def a_network(backbone, kernel, width):
    body = {"kernel": RNG.normal(size=kernel), "bias": RNG.normal(size=kernel[-1])}
    head = {"kernel": RNG.normal(size=(width, CLASSES)), "bias": RNG.normal(size=CLASSES)}
    params = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), {"backbone": body, "head": head})
    model = Model(backbone, ToyHead(CLASSES), backbone.inputs)
    return Network(model, Variables(params, {"backbone": {}, "head": {}}))


@pytest.fixture(scope="module")
def small():
    """A convolutional classifier and ten pictures."""
    return a_network(Convolution(), (3, 3, 3, 5), 5), a_batch(10)


@pytest.fixture(scope="module")
def logistic():
    """Logistic regression on twelve numbers, whose head is the identity."""
    network = a_network(Line(), (12, CLASSES), CLASSES)
    passed_on = {"kernel": jnp.eye(CLASSES), "bias": jnp.zeros(CLASSES)}
    numbers = network.variables
    return (
        Network(network.model, Variables({**numbers.params, "head": passed_on}, numbers.state)),
        a_batch(8, 2),
    )


def diagonal(network, *batches, key=KEY, like=None, **options):
    here = like or network
    return Fisher(**options).prepare(
        model=here.model, variables=here.variables, source=network, batches=batches, rng=key
    )


def torchs(network, batch, answers):
    """Mean over pictures and over (label, share) of `answers(p, number)` of the squared score."""
    params = jax.tree.map(lambda w: torch.tensor(np.asarray(w)), network.variables.params)
    body, head = params["backbone"], params["head"]
    for w in body.values():
        w.requires_grad_()
    total = {name: torch.zeros_like(w) for name, w in body.items()}
    for number, image in enumerate(np.asarray(batch.inputs["image"])):
        x = torch.tensor(image)[None].permute(0, 3, 1, 2)
        x = torch.conv2d(x, body["kernel"].permute(3, 2, 0, 1), body["bias"])
        z = torch.tanh(x).mean((2, 3)) @ head["kernel"] + head["bias"]
        log_p = torch.log_softmax(z, -1)[0]
        for label, share in answers(log_p.detach().exp(), number):
            slopes = torch.autograd.grad(log_p[label], list(body.values()), retain_graph=True)
            for name, slope in zip(body, slopes, strict=True):
                total[name] += share * slope**2
    return {name: np.asarray(value) / (number + 1) for name, value in total.items()}


def same(found, wanted, rtol=1e-4):
    assert found.keys() == wanted.keys()
    for name, leaf in found.items():
        np.testing.assert_allclose(leaf, wanted[name], rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_given_labels_as_torch(small, chunk):
    network, batch = small
    wanted = torchs(network, batch, lambda p, number: [(int(batch.targets["label"][number]), 1)])
    same(diagonal(network, batch, labels="empirical", chunk=chunk), wanted)


def test_the_sum_over_classes_as_torch(small):
    network, batch = small
    wanted = torchs(network, batch, lambda p, number: enumerate(p))
    same(diagonal(network, batch, labels="exact"), wanted)


def test_logistic_regression_has_a_formula(logistic):
    """F of w_jc is the mean of x_j² p_c (1 − p_c), that of b_c the mean of p_c (1 − p_c)."""
    network, batch = logistic
    x = np.asarray(batch.inputs["image"], np.float64).reshape(8, -1)
    body = jax.tree.map(lambda w: np.asarray(w, np.float64), network.variables.params["backbone"])
    p = np.exp(x @ body["kernel"] + body["bias"])
    p /= p.sum(1, keepdims=True)
    wanted = {"kernel": (x**2).T @ (p * (1 - p)) / 8, "bias": (p * (1 - p)).mean(0)}
    same(diagonal(network, batch, labels="exact"), wanted)


def test_drawn_labels_come_to_the_sum_over_classes(logistic):
    """The error of the mean of n draws shrinks with √n; the labels of the data give another
    number, so that the two kinds are not the same thing under two names."""
    network, batch = logistic
    exact = diagonal(network, batch, labels="exact")

    def off(**options):
        found = diagonal(network, batch, **options)["bias"]
        return float(jnp.linalg.norm(found - exact["bias"]) / jnp.linalg.norm(exact["bias"]))

    assert off(samples=200) < 0.1 < off(labels="empirical")
    several = {off(key=jax.random.key(seed)) for seed in range(4)}
    assert len(several) > 1
    assert np.mean([*several]) > 0.1


@pytest.mark.parametrize("labels", ["model", "exact", "empirical"])
def test_order_batches_chunks_and_padding_do_not_matter(small, labels):
    """Padding is not even looked at: here it is not a number, and its label is no class."""
    network, batch = small
    whole = diagonal(network, batch, labels=labels)
    turned = rows(batch, slice(None, None, -1))
    same(diagonal(network, turned, labels=labels, chunk=3), whole)
    first, last = rows(batch, slice(0, 7)), rows(batch, slice(7, 10))
    padded = Batch(
        {"image": jnp.concatenate([last.inputs["image"], jnp.full((4, 5, 5, 3), jnp.nan)])},
        {"label": jnp.concatenate([last.targets["label"], jnp.full(4, -1)])},
        jnp.concatenate([last.index, jnp.zeros(4, int)]),
        jnp.asarray([1.0] * 3 + [0.0] * 4),
    )
    same(diagonal(network, first, padded, labels=labels), whole)
    twice = diagonal(network, batch, batch, labels=labels)
    same(twice, whole)


def test_is_computed_in_mode_eval():
    """Dropout and batch statistics would make it depend on the key and on the other pictures."""
    backbone = ToyBackbone(dropout=0.5)
    model = Model(backbone, ToyHead(CLASSES), backbone.inputs)
    batch = a_batch(4, 8)
    network = Network(model, jax.jit(model.init)(KEY, batch))
    alone = [
        diagonal(network, rows(batch, slice(i, i + 1)), labels="exact", chunk=1) for i in range(4)
    ]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 4, *alone)
    found = diagonal(network, batch, labels="exact", chunk=1, key=jax.random.key(5))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-9)


def test_normalised_has_a_mean_of_one(small):
    network, batch = small
    plain = diagonal(network, batch)
    found = diagonal(network, batch, normalised=True)
    flat = np.concatenate([leaf.ravel() for leaf in found.values()])
    assert flat.mean() == pytest.approx(1, rel=1e-5)
    ratios = {name: found[name] / jnp.maximum(plain[name], 1e-30) for name in found}
    np.testing.assert_allclose(ratios["kernel"], float(ratios["bias"][0]), rtol=1e-4)


@pytest.mark.parametrize("labels", ["model", "exact", "empirical"])
def test_one_picture_of_one_class_is_enough(small, labels):
    network, batch = small
    found = diagonal(network, rows(batch, slice(1)), labels=labels)
    assert all(np.isfinite(leaf).all() and (leaf >= 0).all() for leaf in found.values())


def test_refusals(small, logistic):
    network, batch = small
    with pytest.raises(ConfigError, match="Did you mean 'model'"):
        Fisher("mode")
    for option in ("samples", "chunk"):
        with pytest.raises(ConfigError, match=f"{option} must be 1 or more"):
            Fisher(**{option: 0})
    headless = Network(replace(network.model, head=None), network.variables)
    with pytest.raises(ConfigError, match="no source with a head"):
        diagonal(headless, batch)
    with pytest.raises(DataError, match="there are none"):
        diagonal(network, batch._replace(weight=jnp.zeros(10)))
    fewer = network.variables.params["head"]
    fewer = {"kernel": fewer["kernel"][:, :2], "bias": fewer["bias"][:2]}
    numbers = Variables({**network.variables.params, "head": fewer}, network.variables.state)
    two = Network(replace(network.model, head=ToyHead(2)), numbers)
    with pytest.raises(ConfigError, match=r"4 classes are others\. Use labels = 'model'"):
        diagonal(network, batch, labels="empirical", like=two)
    diagonal(network, batch, like=two)


def test_a_head_for_something_else_is_refused(small):
    network, batch = small

    @dataclass(frozen=True)
    class Value(ToyHead):
        def predict(self, outputs):
            return {"value": outputs}

    other = Network(replace(network.model, head=Value(CLASSES)), network.variables)
    with pytest.raises(ConfigError, match="answers something else"):
        diagonal(other, batch)


def test_a_source_that_is_certain_is_refused(logistic):
    """Its scores are 0 in every direction: a penalty that is always 0 would pass unnoticed."""
    network, batch = logistic
    params = {
        **network.variables.params,
        "head": {"kernel": jnp.zeros((4, 4)), "bias": jnp.ones(4)},
    }
    still = Network(network.model, Variables(params, network.variables.state))
    with pytest.raises(DataError, match="0 on average and can hold nothing"):
        diagonal(still, batch)
