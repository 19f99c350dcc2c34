"""Neighbours and the probe, against scikit-learn's cross-validation."""

import numpy as np
import pytest
import tlx_select.knn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tlx_select.knn import KNN
from tlx_select.probe import Probe, folds_of

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 150)
FEATURES = 0.7 * RNG.normal(size=(4, 8))[LABELS] + RNG.normal(size=(150, 8)) * [
    1,
    1,
    1,
    2,
    2,
    9,
    0.1,
    1,
]


@pytest.mark.parametrize("rows", [1024, 40])
def test_neighbours_are_scikit_learns_leaving_one_out(rows, monkeypatch):
    monkeypatch.setattr(tlx_select.knn, "ROWS", rows)

    def weights(distances):
        return np.exp((1 - distances) / 0.1)

    theirs = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=weights)
    wanted = cross_val_predict(theirs, FEATURES, LABELS, cv=LeaveOneOut()) == LABELS
    ours = KNN(neighbours=7)(features=FEATURES, labels=LABELS)
    np.testing.assert_array_equal(ours, wanted)
    assert 0.3 < ours.mean() < 0.95


def test_the_probe_is_scikit_learns_on_the_same_folds():
    fold = folds_of(FEATURES, LABELS, 5)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=1000))
    found = cross_val_predict(theirs, FEATURES, LABELS, cv=PredefinedSplit(fold))
    ours = Probe()(features=FEATURES, labels=LABELS)
    assert np.mean(ours == (found == LABELS)) >= 0.993  # one on a border may fall either way
    assert 0.3 < ours.mean() < 0.95


def test_every_class_is_spread_evenly_over_the_folds():
    fold = folds_of(FEATURES, LABELS, 5)
    assert set(np.bincount(fold)) == {30}
    for k in range(4):
        counts = np.bincount(fold[k == LABELS], minlength=5)
        assert np.ptp(counts) <= 1


def test_folds_go_with_the_pictures():
    order = RNG.permutation(150)
    fold = folds_of(FEATURES, LABELS, 5)
    np.testing.assert_array_equal(folds_of(FEATURES[order], LABELS[order], 5), fold[order])
    np.testing.assert_array_equal(folds_of(FEATURES, 3 - LABELS, 5), fold)


def test_the_scale_of_the_features_is_no_matter():
    ours = [Probe()(features=s * FEATURES + 1, labels=LABELS).mean() for s in (1e-20, 1, 1e20)]
    assert ours[0] <= ours[1] == ours[2]
