"""LogME against the evidence itself, maximised over both of its parameters by a search."""

import numpy as np
import pytest
from scipy.optimize import minimize
from tlx_select.logme import LogME

from tlx.errors import ScoreError

RNG = np.random.default_rng(0)


def drawn(pictures, width, classes=3, noise=1.0):
    labels = np.arange(pictures) % classes
    centres = RNG.normal(size=(classes, width))
    return centres[labels] + noise * RNG.normal(size=(pictures, width)), labels


def evidence(features, target):
    """max over α, β of log N(y; 0, I / β + f fᵀ / α), from 9 starting points."""
    pictures = len(features)

    def loss(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(pictures) / beta + features @ features.T / alpha
        _, size = np.linalg.slogdet(covariance)
        square = target @ np.linalg.solve(covariance, target)
        return (size + square + pictures * np.log(2 * np.pi)) / 2

    grid = [(a, b) for a in np.linspace(-4, 8, 3) for b in np.linspace(-4, 8, 3)]
    bounds = [(-14, 14)] * 2
    return -min(minimize(loss, start, bounds=bounds, tol=1e-12).fun for start in grid)


@pytest.mark.parametrize(("pictures", "width"), [(40, 5), (30, 20), (18, 25)])
def test_it_is_the_largest_evidence(pictures, width):
    features, labels = drawn(pictures, width)
    wanted = np.mean([evidence(features, (labels == k).astype(float)) for k in range(3)])
    assert LogME()(features=features, labels=labels) == pytest.approx(wanted / pictures, abs=2e-5)


def test_no_rotation_and_no_common_scale_changes_it():
    features, labels = drawn(40, 6)
    turn, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    one, other = (LogME()(features=f, labels=labels) for f in (features, 7 * features @ turn))
    assert one == pytest.approx(other, abs=1e-8)


def test_features_of_noise_score_as_no_features_would():
    """The prior becomes so tight that what is left is the evidence of noise around 0."""
    features, labels = RNG.normal(size=(300, 2)), np.arange(300) % 2
    silent = -(1 + np.log(2 * np.pi) + np.log(0.5)) / 2
    assert LogME()(features=features, labels=labels) == pytest.approx(silent, abs=0.02)


def test_a_feature_that_is_the_label_has_no_answer():
    labels = np.arange(20) % 2
    with pytest.raises(ScoreError, match="reproduce the labels"):
        LogME()(features=np.eye(2)[labels], labels=labels)
