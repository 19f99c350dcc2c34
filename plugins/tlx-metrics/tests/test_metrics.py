"""Metrics of a whole split against scikit-learn and SciPy, called directly."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from tlx_metrics.calibration import CalibrationError
from tlx_metrics.macro_f1 import MacroF1
from tlx_metrics.ranking import AUROC, AveragePrecision
from tlx_metrics.spearman import Spearman

from tlx.errors import ConfigError
from tlx.protocols import Metric
from tlx.types import Batch

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 4, 60)
SCORES = np.exp(RNG.normal(size=(60, 4)) + 1.2 * np.eye(4)[LABEL])
SHARES = SCORES / SCORES.sum(1, keepdims=True)
SEVERAL = RNG.integers(0, 2, (60, 3))
EACH = 1 / (1 + np.exp(-(RNG.normal(size=(60, 3)) + SEVERAL)))
AN = {"class": SHARES.argmax(1), "probability": SHARES.max(1), "probabilities": SHARES}


def value(metric, predictions, label):
    """A metric of one batch."""
    given = {name: jnp.asarray(leaf) for name, leaf in predictions.items()}
    targets, count = {"label": jnp.asarray(label)}, len(label)
    rows = metric.collect(given, Batch({}, targets, jnp.arange(count), jnp.ones(count)))
    return metric.compute({name: np.asarray(leaf) for name, leaf in rows.items()})


def several():
    return {"labels": (EACH >= 0.5).astype(int), "probabilities": EACH}


def test_macro_f1_is_scikit_learns():
    wanted = metrics.f1_score(LABEL, SHARES.argmax(1), average="macro")
    assert value(MacroF1(), AN, LABEL) == pytest.approx(wanted)
    wanted = metrics.f1_score(SEVERAL, EACH >= 0.5, average="macro")
    assert value(MacroF1(), several(), SEVERAL) == pytest.approx(wanted)


def test_a_class_that_is_never_predicted_counts_as_zero():
    found = value(MacroF1(), {"class": np.zeros(4, int)}, np.array([0, 0, 0, 1]))
    assert found == pytest.approx((6 / 7 + 0) / 2)


@pytest.mark.parametrize(
    ("metric", "score"),
    [(AUROC(), metrics.roc_auc_score), (AveragePrecision(), metrics.average_precision_score)],
)
def test_ranking_is_scikit_learns(metric, score):
    wanted = score(np.eye(4)[LABEL], SHARES, average="macro")
    assert value(metric, AN, LABEL) == pytest.approx(wanted, rel=1e-6)
    wanted = score(SEVERAL, EACH, average="macro")
    assert value(metric, several(), SEVERAL) == pytest.approx(wanted, rel=1e-6)


def test_auroc_of_two_classes_is_that_of_either():
    label, two = np.array([0, 1, 1, 0, 1]), np.array([0.2, 0.7, 0.4, 0.5, 0.9])
    found = value(AUROC(), {"probabilities": np.stack([1 - two, two], 1)}, label)
    assert found == pytest.approx(metrics.roc_auc_score(label, two))


def test_ranking_leaves_out_classes_that_nothing_is_compared_with():
    few = LABEL != 3
    found = value(AUROC(), {"probabilities": SHARES[few]}, LABEL[few])
    each = [metrics.roc_auc_score(LABEL[few] == k, SHARES[few, k]) for k in range(3)]
    assert found == pytest.approx(np.mean(each), rel=1e-6)
    with pytest.raises(ConfigError, match="no class of the 5 examples"):
        value(AUROC(), {"probabilities": SHARES[:5]}, np.zeros(5, int))


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_is_that_of_a_loop(bins):
    right, confidence, wanted = SHARES.argmax(1) == LABEL, SHARES.max(1).astype(np.float32), 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            wanted += inside.mean() * gap
    assert value(CalibrationError(bins), AN, LABEL) == pytest.approx(wanted, rel=1e-5)


def test_calibration_error_of_a_closed_case():
    """All in one bin, 0.9 sure and right half of the time."""
    said = {"class": np.zeros(10, int), "probability": np.full(10, 0.9)}
    assert value(CalibrationError(), said, np.arange(10) % 2) == pytest.approx(0.4)
    with pytest.raises(ConfigError, match="at least 1"):
        CalibrationError(0)


def test_spearman_is_scipys():
    label = RNG.normal(size=40).round(1)
    said = label + RNG.normal(size=40)
    wanted = stats.spearmanr(label, said).statistic
    assert value(Spearman(), {"value": said}, label) == pytest.approx(wanted)
    assert value(Spearman(), {"value": said}, label[:, None]) == pytest.approx(wanted)
    assert value(Spearman(), {"value": np.zeros(40)}, label) == 0


@pytest.mark.parametrize("metric", [MacroF1, AUROC, AveragePrecision, CalibrationError, Spearman])
def test_a_head_that_predicts_something_else_is_refused(metric):
    assert isinstance(metric(), Metric)
    with pytest.raises(ConfigError, match="this head predicts other"):
        value(metric(), {"other": np.zeros(3)}, np.zeros(3))
