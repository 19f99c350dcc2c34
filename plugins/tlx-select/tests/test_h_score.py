"""H-score from its definition, with the plain and the shrunk covariance."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tlx_select.h_score import HScore

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 70)
FEATURES = RNG.normal(size=(4, 6))[LABELS] + RNG.normal(size=(70, 6))


def conditional(features):
    """E[f|y] for every picture."""
    return np.stack([features[label == LABELS].mean(0) for label in LABELS])


@pytest.mark.parametrize("width", [6, 90])
def test_the_plain_one_is_its_definition(width):
    features = FEATURES @ RNG.normal(size=(6, width)) if width > 6 else FEATURES
    both = (np.cov(f.T, bias=True) for f in (features, conditional(features)))
    whole, between = both
    wanted = np.trace(np.linalg.pinv(whole, rcond=1e-9, hermitian=True) @ between)
    plain = HScore(shrinkage=False)(features=features, labels=LABELS)
    assert plain == pytest.approx(wanted, rel=1e-6)
    assert 0 < plain < 3


@pytest.mark.parametrize("width", [6, 90])
def test_the_shrunk_one_is_its_definition(width):
    features = FEATURES if width == 6 else RNG.normal(size=(70, width))
    shrunk = LedoitWolf().fit(features)
    between = np.cov(conditional(features).T, bias=True)
    wanted = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    score = HScore()(features=features, labels=LABELS)
    assert score == pytest.approx(wanted, rel=1e-9)


def test_the_plain_one_is_what_discriminant_analysis_finds():
    """The eigenvalues λ of between against within give Σ λ / (1 + λ)."""
    lda = LinearDiscriminantAnalysis(solver="eigen", n_components=3)
    lda.fit(FEATURES, LABELS)
    turned = lda.transform(FEATURES)
    within = sum(
        np.square(turned[k == LABELS] - turned[k == LABELS].mean(0)).sum(0) for k in range(4)
    )
    whole = np.square(turned - turned.mean(0)).sum(0)
    wanted = np.sum(1 - within / whole)
    plain = HScore(shrinkage=False)(features=FEATURES, labels=LABELS)
    assert plain == pytest.approx(wanted, rel=1e-6)


def test_more_features_of_noise_say_nothing_once_shrunk():
    """Plainly, as many features as pictures explain every label."""
    noise = RNG.normal(size=(70, 300))
    assert HScore(shrinkage=False)(features=noise, labels=LABELS) == pytest.approx(3, rel=1e-6)
    assert HScore()(features=noise, labels=LABELS) < 1.5
