"""The multilabel head against torch and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn import metrics
from tlx_heads.multilabel import Multilabel

from tlx.errors import ConfigError, DataError
from tlx.protocols import Head
from tlx.types import Batch

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 4)).astype(np.float32) * 3
LABELS = (RNG.random((20, 4)) < 0.4).astype(np.int32)


def batch(label=LABELS, weight=None):
    weight = np.ones(len(label), np.float32) if weight is None else weight
    targets, number = {"label": jnp.asarray(label)}, jnp.arange(len(label))
    return Batch({}, targets, number, jnp.asarray(weight))


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float32, bool])
def test_loss_and_gradient_are_torchs(kind):
    logits = torch.tensor(LOGITS, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.tensor(LABELS, dtype=torch.float32), reduction="none"
    ).mean(-1)
    theirs.sum().backward()
    head, fed = Multilabel(4), batch(LABELS.astype(kind))
    ours, pull = jax.vjp(lambda z: head.loss(z, fed), jnp.asarray(LOGITS))
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(20))[0], logits.grad, rtol=1e-5, atol=1e-6)


def test_metrics_are_scikit_learns_over_ragged_batches():
    head = Multilabel(4)
    weight = (np.arange(10) < 7).astype(np.float32)
    first = head.measure(jnp.asarray(LOGITS[:10]), batch(LABELS[:10]))
    second = head.measure(jnp.asarray(LOGITS[10:]), batch(LABELS[10:], weight))
    report = head.report(jax.tree.map(jnp.add, first, second))
    true, found = LABELS[:17], np.asarray(head.predict(jnp.asarray(LOGITS[:17]))["labels"])
    assert report["micro_f1"] == pytest.approx(metrics.f1_score(true, found, average="micro"))
    assert report["macro_f1"] == pytest.approx(metrics.f1_score(true, found, average="macro"))
    assert report["accuracy"] == pytest.approx(metrics.accuracy_score(true, found))
    assert all(type(value) is float for value in report.values())
    assert head.selection[0] in report


def test_labels_that_never_occur_and_are_never_found_give_zero():
    head = Multilabel(2)
    report = head.report(head.measure(-jnp.ones((3, 2)), batch(np.zeros((3, 2), int))))
    assert report["micro_f1"] == report["macro_f1"] == 0
    assert report["accuracy"] == 1


def test_prediction():
    found = Multilabel(4).predict(jnp.asarray(LOGITS))
    theirs = torch.sigmoid(torch.tensor(LOGITS)).numpy()
    np.testing.assert_allclose(found["probabilities"], theirs, rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], theirs >= 0.5)


def test_refusals():
    head = Multilabel(4)
    assert isinstance(head, Head)
    with pytest.raises(ConfigError, match="at least 1 class"):
        Multilabel(0)
    with pytest.raises(DataError, match="softmax head"):
        head.loss(jnp.asarray(LOGITS), batch(LABELS[:, 0]))
    label = np.array([[0, 1, 0, 1], [0, 2, 0, 1], [0, -1, 0, 1]])
    loss = head.loss(jnp.asarray(LOGITS[:3]), batch(label, np.array([1, 1, 0], np.float32)))
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
