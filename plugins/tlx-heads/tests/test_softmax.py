"""The softmax head against torch and scikit-learn, and the label traps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn import metrics
from tlx_heads.softmax import Softmax

from tlx.errors import ConfigError, DataError
from tlx.protocols import Head
from tlx.types import Batch

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 5)).astype(np.float32) * 3
LABELS = RNG.integers(0, 5, 20)


def batch(label=LABELS, weight=None):
    weight = np.ones(len(label), np.float32) if weight is None else weight
    targets, number = {"label": jnp.asarray(label)}, jnp.arange(len(label))
    return Batch({}, targets, number, jnp.asarray(weight))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_loss_and_gradient_are_torchs(smoothing):
    head = Softmax(5, label_smoothing=smoothing)
    logits = torch.tensor(LOGITS, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        logits, torch.tensor(LABELS), label_smoothing=smoothing, reduction="none"
    )
    theirs.sum().backward()
    ours, pull = jax.vjp(lambda z: head.loss(z, batch()), jnp.asarray(LOGITS))
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(20))[0], logits.grad, rtol=1e-5, atol=1e-6)


def test_metrics_are_scikit_learns_over_ragged_batches():
    head = Softmax(5)
    weight = np.arange(10) < 7  # three of the second batch are padding
    first = head.measure(jnp.asarray(LOGITS[:10]), batch(LABELS[:10]))
    second = head.measure(jnp.asarray(LOGITS[10:]), batch(LABELS[10:], weight.astype(np.float32)))
    totals = jax.tree.map(jnp.add, first, second)
    true, found = LABELS[:17], LOGITS[:17].argmax(-1)
    np.testing.assert_array_equal(
        totals["confusion"], metrics.confusion_matrix(true, found, labels=range(5))
    )
    report = head.report(totals)
    assert report["accuracy"] == pytest.approx(metrics.accuracy_score(true, found))
    assert report["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(true, found)
    )
    recalls = metrics.recall_score(true, found, average=None)
    assert report["worst_recall"] == pytest.approx(min(recalls))
    assert report["loss"] == pytest.approx(
        metrics.log_loss(true, jax.nn.softmax(LOGITS[:17]), labels=range(5)), rel=1e-5
    )
    assert all(type(value) is float for value in report.values())
    assert head.selection[0] in report


def test_classes_that_do_not_occur_leave_balanced_accuracy_alone():
    head = Softmax(5)
    report = head.report(head.measure(jnp.eye(5)[:2] * 9, batch(np.array([0, 1]))))
    assert report["balanced_accuracy"] == report["worst_recall"] == 1


def test_prediction():
    found = Softmax(5).predict(jnp.asarray(LOGITS))
    theirs = torch.softmax(torch.tensor(LOGITS), -1).numpy()
    np.testing.assert_allclose(found["probabilities"], theirs, rtol=1e-5)
    np.testing.assert_array_equal(found["class"], theirs.argmax(-1))
    np.testing.assert_allclose(found["probability"], theirs.max(-1), rtol=1e-5)


@pytest.mark.parametrize("wrong", [-1, 5, 255])
def test_a_label_that_is_no_class_is_neither_another_class_nor_free(wrong):
    head = Softmax(5)
    label = np.array([2, wrong])
    loss = head.loss(jnp.asarray(LOGITS[:2]), batch(label))
    assert np.isfinite(loss[0])
    assert np.isnan(loss[1])
    padding = batch(label, np.array([1, 0], np.float32))
    report = head.report(head.measure(jnp.asarray(LOGITS[:2]), padding))
    assert report["loss"] == pytest.approx(float(loss[0]))
    weighted = jax.grad(lambda z: jnp.sum(head.loss(z, padding) * padding.weight))
    assert np.isfinite(weighted(jnp.asarray(LOGITS[:2]))).all()


@pytest.mark.parametrize("label", [LABELS[:, None], LABELS[:7], LABELS / 1.0, np.eye(5)[LABELS]])
def test_labels_that_are_no_class_numbers_are_refused(label):
    with pytest.raises(DataError, match="one class number per picture"):
        Softmax(5).loss(jnp.asarray(LOGITS), batch(label))


def test_starts():
    features = {"pooled": jnp.ones((2, 400)), "map": jnp.arange(48.0).reshape(2, 2, 3, 4)}
    made = Softmax(5).init(jax.random.key(0), features)
    assert made.params["kernel"].shape == (400, 5)
    assert float(made.params["kernel"].std()) == pytest.approx(400**-0.5, rel=0.1)  # LeCun
    zero = Softmax(5, zero_init=True).init(jax.random.key(0), features)
    assert not any(leaf.any() for leaf in jax.tree.leaves(zero.params))
    head = Softmax(4, feature="map")
    start = {"kernel": jnp.eye(4), "bias": jnp.ones(4)}
    outputs, _ = head.apply(start, {}, features, inputs={}, rng=jax.random.key(0), mode="eval")
    np.testing.assert_allclose(outputs, features["map"].mean((1, 2)) + 1)


def test_refusals():
    assert isinstance(Softmax(2), Head)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        Softmax(1)
    with pytest.raises(ConfigError, match="label_smoothing"):
        Softmax(3, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="Did you mean 'pooled'"):
        Softmax(3, feature="poled").init(jax.random.key(0), {"pooled": jnp.ones((1, 2))})
    nothing = Softmax(5).measure(jnp.asarray(LOGITS), batch(weight=np.zeros(20, np.float32)))
    with pytest.raises(DataError, match="nothing to report"):
        Softmax(5).report(nothing)
