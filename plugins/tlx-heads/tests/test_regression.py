"""The regression head against torch and scikit-learn, and the broadcasting trap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn import metrics
from tlx_heads.regression import Regression

from tlx.errors import ConfigError, DataError
from tlx.protocols import Head
from tlx.types import Batch

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(20, 3)).astype(np.float32)
LABELS = VALUES + RNG.normal(size=(20, 3)).astype(np.float32) / 2


def batch(label, weight=None):
    weight = np.ones(len(label), np.float32) if weight is None else weight
    targets, number = {"label": jnp.asarray(label)}, jnp.arange(len(label))
    return Batch({}, targets, number, jnp.asarray(weight))


def test_loss_and_gradient_are_torchs():
    values = torch.tensor(VALUES, requires_grad=True)
    theirs = torch.nn.functional.mse_loss(values, torch.tensor(LABELS), reduction="none").mean(-1)
    theirs.sum().backward()
    head = Regression(3)
    ours, pull = jax.vjp(lambda z: head.loss(z, batch(LABELS)), jnp.asarray(VALUES))
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(20))[0], values.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1000.0, 20.0)])
def test_metrics_are_scikit_learns_over_ragged_batches(mean, std):
    head = Regression(3, mean=mean, std=std)
    label = (LABELS * std + mean).astype(np.float32)
    weight = (np.arange(10) < 7).astype(np.float32)
    first = head.measure(jnp.asarray(VALUES[:10]), batch(label[:10]))
    second = head.measure(jnp.asarray(VALUES[10:]), batch(label[10:], weight))
    report = head.report(jax.tree.map(jnp.add, first, second))
    said = head.predict(jnp.asarray(VALUES[:17]))
    assert list(said) == ["value_1", "value_2", "value_3"]
    true, found = label[:17], np.stack([np.asarray(each) for each in said.values()], -1)
    close = partial(pytest.approx, rel=1e-4)
    for i in range(3):
        of = true[:, i], found[:, i]
        assert report[f"mse_{i + 1}"] == close(metrics.mean_squared_error(*of))
        assert report[f"rmse_{i + 1}"] == close(metrics.root_mean_squared_error(*of))
        assert report[f"mae_{i + 1}"] == close(metrics.mean_absolute_error(*of))
        assert report[f"r2_{i + 1}"] == close(metrics.r2_score(*of))
    assert report["r2"] == pytest.approx(metrics.r2_score(true, found), rel=1e-4)
    assert all(type(value) is float for value in report.values())
    assert head.selection[0] in report


@pytest.mark.parametrize("hit", [0.0, 0.5])
def test_r2_of_constant_labels_is_scikit_learns(hit):
    label = np.full((5, 1), 2.0, np.float32)
    head = Regression()
    report = head.report(head.measure(jnp.asarray(label + hit), batch(label)))
    assert report["r2"] == metrics.r2_score(label, label + hit)


def test_a_flat_label_is_never_broadcast():
    value = jnp.arange(4.0)[:, None]
    for label in (np.arange(4.0), np.arange(4)[:, None], np.arange(4)):
        np.testing.assert_array_equal(Regression().loss(value, batch(label)), np.zeros(4))


@pytest.mark.parametrize(
    ("outputs", "label"), [(3, LABELS[:, 0]), (3, LABELS[:, :1]), (1, LABELS), (3, LABELS[:1])]
)
def test_labels_that_do_not_fit_are_refused_when_traced(outputs, label):
    head = Regression(outputs)
    with pytest.raises(DataError, match="wants labels of shape"):
        jax.eval_shape(head.loss, jax.ShapeDtypeStruct((20, outputs), jnp.float32), batch(label))


def test_refusals():
    assert isinstance(Regression(), Head)
    with pytest.raises(ConfigError, match="at least 1 output"):
        Regression(0)
    with pytest.raises(ConfigError, match="std"):
        Regression(std=0.0)


def test_outputs_in_the_labels_units_are_those_of_the_predictions():
    """What other libraries get of the head, and what its predictions say."""
    head = Regression(2, mean=(1000.0, -3.0), std=(20.0, 0.5), names=("price", "age"))
    features = {"pooled": jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)}
    params, _ = head.init(jax.random.key(0), features)
    ours, _ = head.apply(params, {}, features, inputs={}, rng=jax.random.key(0), mode="eval")
    said = head.predict(ours)
    assert list(said) == ["price", "age"]
    theirs = features["pooled"] @ head.in_units(params)["kernel"] + head.in_units(params)["bias"]
    np.testing.assert_allclose(theirs, np.stack(list(said.values()), -1), rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"mean": (1.0, 2.0)}, {"std": (1.0, 0.0, 1.0)}, {"names": ("a",)}, {"std": 0.0}]
)
def test_options_without_a_meaning_are_refused(options):
    with pytest.raises(ConfigError):
        Regression(3, **options)
