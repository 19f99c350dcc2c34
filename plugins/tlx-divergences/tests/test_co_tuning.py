"""Co-Tuning against scikit-learn, scipy, torch and the paper's rule in loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from tlx_divergences.category_relationship import (
    FOLDS,
    STRENGTHS,
    calibrating_scale,
    direct_relationship,
    logistic_regression,
    reverse_relationship,
)
from tlx_divergences.co_tuning import CoTuning

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit
from tlx.testing.world import ToyHead, world
from tlx.types import Batch, Network

RNG = np.random.default_rng(0)
TRUE = RNG.dirichlet(np.full(5, 0.4), size=3)
LABELS = np.sort(RNG.integers(0, 3, 60)).astype(np.int32)


def believed(sure=2.0):
    """Probabilities (60,5) of a source that sees a class drawn from the label's relation."""
    seen = [RNG.choice(5, p=TRUE[label]) for label in LABELS]
    return softmax(RNG.normal(size=(60, 5)) + sure * np.eye(5)[seen], -1)


PROBABILITIES = believed()


def labelled(label):
    return Batch({}, {"label": label}, np.arange(len(label)), np.ones(len(label)))


def test_direct_is_the_average_of_every_class_and_the_marginal_of_an_empty_one():
    found = np.asarray(direct_relationship(jnp.asarray(PROBABILITIES), LABELS, 4))
    for label in range(3):
        rows = [p for p, y in zip(PROBABILITIES, LABELS, strict=True) if y == label]
        np.testing.assert_allclose(found[label], sum(rows) / len(rows), rtol=1e-5)
    np.testing.assert_allclose(found[3], PROBABILITIES.mean(0), rtol=1e-5)


def scikit_learn(strength):
    return LogisticRegression(
        C=strength, fit_intercept=False, tol=1e-10, solver="newton-cholesky", max_iter=1000
    )


def test_the_logistic_regression_is_scikit_learns():
    weight = RNG.integers(0, 2, 60).astype(np.float64)
    fit = jax.jit(lambda *words: logistic_regression(*words[:2], 3, *words[2:]))
    with jax.enable_x64(True):
        for strength in (0.1, 10.0, 1000.0):
            theirs = scikit_learn(strength).fit(PROBABILITIES, LABELS, sample_weight=weight)
            ours = fit(PROBABILITIES, LABELS, strength, weight)
            np.testing.assert_allclose(ours, theirs.coef_.T, rtol=1e-4, atol=1e-4)


def test_the_scale_is_that_of_the_highest_likelihood_and_never_turns_answers_round():
    logits = RNG.normal(size=(60, 3)) + np.eye(3)[LABELS]
    found = jax.jit(calibrating_scale)
    with jax.enable_x64(True):
        assert float(found(3 * logits, LABELS)) == pytest.approx(scale_of(3 * logits), rel=1e-2)
        assert float(found(-logits, LABELS)) == 0
        assert float(found(0 * logits, LABELS)) == 1
        assert np.isfinite(found(10 * np.eye(3)[LABELS], LABELS))


def likelihood(logits):
    return log_softmax(logits, -1)[np.arange(60), LABELS].mean()


def scale_of(logits):
    return minimize_scalar(lambda s: -likelihood(s * logits), bounds=(0, 100), method="bounded").x


def test_reverse_is_bayes_rule_over_scikit_learns_cross_validated_regression():
    """Every fifth picture of a class is left out in turn; then loops over both classes."""
    held = np.concatenate([np.arange(n) % FOLDS for n in np.bincount(LABELS)])
    tried = []
    for strength in STRENGTHS:
        logits = np.zeros((60, 3))
        for fold in range(FOLDS):
            rest = scikit_learn(strength).fit(PROBABILITIES[held != fold], LABELS[held != fold])
            logits[held == fold] = PROBABILITIES[held == fold] @ rest.coef_.T
        scale = scale_of(logits)
        tried.append((likelihood(scale * logits), strength, scale))
    _, strength, scale = max(tried)
    final = scikit_learn(strength).fit(PROBABILITIES, LABELS)
    target = softmax(scale * final.coef_.T, -1)
    marginal = PROBABILITIES.mean(0)
    wanted = np.zeros((3, 5))
    for t in range(3):
        total = sum(target[s, t] * marginal[s] for s in range(5))
        for s in range(5):
            wanted[t, s] = target[s, t] * marginal[s] / total
    with jax.enable_x64(True):
        found = reverse_relationship(jnp.asarray(PROBABILITIES), jnp.asarray(LABELS), 3)
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=1e-4)
    single = reverse_relationship(jnp.asarray(PROBABILITIES, jnp.float32), jnp.asarray(LABELS), 3)
    np.testing.assert_allclose(single, found, rtol=1e-2, atol=1e-3)


def test_reverse_finds_the_relation_that_there_is():
    """Each target class is one source class: nothing else may remain, in either way."""
    sure = jnp.asarray(softmax(8 * np.eye(5)[[4, 0, 2]][LABELS] + RNG.normal(size=(60, 5)), -1))
    for find in (direct_relationship, reverse_relationship):
        found = np.asarray(find(sure, jnp.asarray(LABELS), 3))
        np.testing.assert_array_equal(found.argmax(-1), [4, 0, 2])
        assert found.max(-1).min() > 0.9


@pytest.mark.parametrize("find", [direct_relationship, reverse_relationship])
def test_rows_are_probabilities_with_one_picture_one_class_or_an_empty_one(find):
    for labels in ([0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0]):
        labels = np.asarray(labels, np.int32)
        p = jnp.asarray(PROBABILITIES[: len(labels)], jnp.float32)
        found = np.asarray(find(p, labels, 3))
        assert found.shape == (3, 5)
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(-1), np.ones(3), rtol=1e-5)
        np.testing.assert_allclose(found[2], np.asarray(p).mean(0), rtol=1e-5)


def test_value_and_gradient_are_torchs_cross_entropy_on_soft_labels():
    labels = np.asarray([0, 2, 2, 1])
    z = RNG.normal(size=(4, 5)) * 3
    theirs = torch.tensor(z, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(TRUE[labels]))
    loss.backward()
    with jax.enable_x64(True):
        words = {"prepared": {"relation": jnp.asarray(TRUE)}, "batch": labelled(labels)}
        value = lambda z: CoTuning()(source_head_outputs=z, **words)  # noqa: E731
        ours, slope = jax.value_and_grad(value)(jnp.asarray(z))
        check_grads(value, (jnp.asarray(z),), 1, ["rev"])
        least = value(jnp.log(TRUE[labels]) + 3)
    assert float(ours) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-9, atol=1e-12)
    entropy = -(TRUE * np.log(TRUE)).sum(-1)[labels].mean()
    assert float(least) == pytest.approx(entropy, rel=1e-9)
    assert entropy < float(ours)


@pytest.fixture(scope="module")
def networks():
    """(the kit's model of three classes, a source whose own head has five, a batch)."""
    model, variables, _, batch = world()
    source = Model(model.backbone, ToyHead(classes=5), model.inputs)
    numbers = quick_jit(source.init)(jax.random.key(9), batch)
    return Network(model, variables), Network(source, numbers), batch


@pytest.mark.parametrize("relation", ["direct", "reverse"])
def test_prepare_asks_the_source_about_every_training_picture_and_leaves_padding_out(
    networks, relation
):
    (model, variables), source, batch = networks
    empty = batch._replace(
        inputs={"image": batch.inputs["image"][::-1]},
        targets={"label": batch.targets["label"] * 0},
        weight=jnp.zeros(6),
    )
    found = CoTuning(relation, temperature=2.0).prepare(
        model=model,
        variables=variables,
        source=source,
        batches=iter([batch, empty]),
        rng=jax.random.key(0),
    )["relation"]
    z = source.model.apply(source.variables, batch, rng=jax.random.key(1), mode="eval").outputs
    find = direct_relationship if relation == "direct" else reverse_relationship
    wanted = find(jnp.asarray(softmax(np.asarray(z) / 2, -1)), batch.targets["label"], 3)
    # What is fitted in the reverse direction follows the rounding of the source's answers.
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert found.shape == (3, 5)


def test_words_and_refusals(networks):
    (model, variables), source, batch = networks
    assert asked(CoTuning()) == {"source_head_outputs", "prepared", "batch"}
    with pytest.raises(ConfigError, match="Did you mean 'reverse'"):
        CoTuning("revers")
    with pytest.raises(ConfigError, match="temperature"):
        CoTuning(temperature=0.0)
    given = {"model": model, "variables": variables, "source": source, "rng": jax.random.key(0)}
    headless = dataclasses.replace(source.model, head=None)

    def of(targets):
        return batch._replace(targets=targets)

    for change, pixels, why in (
        ({"source": Network(headless, source.variables)}, batch, "the source's are none"),
        ({"model": dataclasses.replace(model, head=None)}, batch, "the model's are none"),
        ({}, of({"label": batch.targets["label"][:, None]}), r"labels are int32\(6, 1\)"),
        ({}, of({"label": batch.weight}), "labels are float32"),
        ({}, of({}), "there is none"),
    ):
        with pytest.raises(ConfigError, match=why):
            CoTuning().prepare(**(given | change), batches=[pixels])
    prepared = {"relation": jnp.asarray(TRUE)}
    with pytest.raises(ConfigError, match="one class number a picture"):
        CoTuning()(source_head_outputs=jnp.zeros((2, 4, 5)), prepared=prepared, batch=batch)
