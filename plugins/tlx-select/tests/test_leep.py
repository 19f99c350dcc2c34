"""LEEP by loops over its definition; NCE by scikit-learn's mutual information."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from tlx_select.leep import leep
from tlx_select.nce import nce

RNG = np.random.default_rng(0)
OUTPUTS, LABELS = RNG.dirichlet(np.ones(6), size=50), RNG.integers(0, 4, 50)


def by_loops(outputs, labels):
    pictures, others = outputs.shape
    total = 0.0
    for i in range(pictures):
        likely = 0.0
        for z in range(others):
            joint = sum(outputs[j, z] for j in range(pictures) if labels[j] == labels[i])
            marginal = sum(outputs[j, z] for j in range(pictures))
            if marginal > 0:
                likely += joint / marginal * outputs[i, z]
        total += np.log(likely)
    return total / pictures


def test_leep_is_its_definition():
    terms = leep(source_outputs=OUTPUTS, labels=LABELS)
    assert terms.shape == (50,)
    assert terms.mean() == pytest.approx(by_loops(OUTPUTS, LABELS), rel=1e-12)


def test_a_class_that_is_never_answered_changes_nothing():
    """Where 0 / 0 would be."""
    wider = np.insert(OUTPUTS, 2, 0, axis=1)
    one, other = (leep(source_outputs=o, labels=LABELS) for o in (OUTPUTS, wider))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_leep_of_a_source_that_knows_all_and_of_one_that_knows_nothing():
    knows = leep(source_outputs=np.eye(4)[LABELS], labels=LABELS)
    np.testing.assert_allclose(knows, 0, atol=1e-12)
    ignorant = leep(source_outputs=np.full((50, 6), 1 / 6), labels=LABELS)
    assert ignorant.mean() == pytest.approx(-entropy(np.bincount(LABELS)))


def test_nce_is_mutual_information_minus_entropy():
    wanted = mutual_info_score(OUTPUTS.argmax(1), LABELS) - entropy(np.bincount(LABELS))
    assert nce(source_outputs=OUTPUTS, labels=LABELS).mean() == pytest.approx(wanted, rel=1e-12)


def test_nce_is_leep_of_a_source_that_is_certain():
    """Nguyen et al., section 3; and LEEP is at least NCE plus the mean log of the best answer."""
    certain = np.eye(6)[OUTPUTS.argmax(1)]
    np.testing.assert_allclose(
        leep(source_outputs=certain, labels=LABELS), nce(source_outputs=OUTPUTS, labels=LABELS)
    )
