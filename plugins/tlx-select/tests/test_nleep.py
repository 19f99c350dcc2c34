"""NLEEP against scikit-learn's PCA and mixture, put together by loops."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from tlx_select.canonical_order import canonical_order
from tlx_select.nleep import NLEEP, principal

from tlx.errors import ScoreError

RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3
CENTRES = RNG.normal(size=(3, 8))
FEATURES = 3 * CENTRES[LABELS] + RNG.normal(size=(90, 8)) * [3, 1, 1, 1, 0.2, 0.2, 0.1, 0.1]


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_it_is_leep_of_a_mixture_on_principal_components(covariance):
    order = canonical_order(FEATURES)
    kept = PCA(0.8, svd_solver="full").fit_transform(FEATURES[order])
    mixture = GaussianMixture(6, covariance_type=covariance, random_state=3).fit(kept)
    posterior, labels = mixture.predict_proba(kept), LABELS[order]
    total = 0.0
    for i in range(90):
        same = labels == labels[i]
        share = [posterior[same, v].sum() / posterior[:, v].sum() for v in range(6)]
        total += np.log(posterior[i] @ share)
    nleep = NLEEP(components_per_class=2, covariance=covariance)
    score = nleep(features=FEATURES, labels=LABELS, seed=3)
    assert score.mean() == pytest.approx(total / 90, rel=1e-3)


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.99, 1.0])
def test_it_keeps_as_many_components_as_scikit_learn(energy):
    kept = principal(FEATURES, energy)
    whole = energy if energy < 1 else 8
    theirs = PCA(whole, svd_solver="full").fit_transform(FEATURES)
    ratio = np.abs(kept / theirs)  # one scale for all, and a sign for each
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)


def test_clusters_that_are_classes_leave_nothing_to_know():
    far = 100 * CENTRES[LABELS] + 0.1 * RNG.normal(size=(90, 8))
    score = NLEEP(components_per_class=1)(features=far, labels=LABELS, seed=0)
    assert score.mean() == pytest.approx(0, abs=1e-6)


def test_too_few_pictures_for_clusters_are_refused():
    with pytest.raises(ScoreError, match="5 pictures a cluster"):
        NLEEP()(features=FEATURES[:9], labels=LABELS[:9], seed=0)
