"""Broken scores: each fails exactly its own check."""

import itertools

import numpy as np
import pytest

from tlx.errors import ScoreError
from tlx.testing import check, checks, failures

COUNT = itertools.count()


def fisher(features, labels):
    """Spread between classes over spread within."""
    names, number = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ScoreError("There is one class.")
    means = np.stack([features[number == k].mean(0) for k in range(len(names))])
    within = np.square(features - means[number]).mean(0).sum()
    return float(np.square(means[number] - features.mean(0)).mean(0).sum() / (within + 1e-6))


def good(*, features, labels):
    return fisher(features, labels)


class Loose:
    """Equals nothing but itself."""

    def __call__(self, *, features, labels):
        return fisher(features, labels)


def constant():
    return 1.0


def vector(*, features, labels):
    return np.full(3, fisher(features, labels))


def not_finite(*, parameters):
    return np.nan


def unsteady(*, parameters):
    return parameters + next(COUNT)


def by_order(*, features):
    return float(features[0, 0])


def shuffled_terms(*, features):
    return np.sort(features[:, 0])


def by_number(*, features, labels):
    return fisher(features, labels) * (1 + labels[features[:, 0].argmax()])


def lower_is_better(*, features, labels):
    return -fisher(features, labels)


def scaling(*, source_outputs):
    source_outputs *= 0.5
    return 1.0


def undefined(*, features):
    with np.errstate(all="ignore"):
        return float(1 / features.std())


def crashes(*, features):
    return float(np.linalg.inv(features.T @ features)[0, 0])


SCORES = {
    "value": Loose,
    "words": lambda: constant,
    "number": lambda: vector,
    "deterministic": lambda: unsteady,
    "order": lambda: shuffled_terms,
    "class_numbers": lambda: by_number,
    "higher_is_better": lambda: lower_is_better,
    "changes_nothing": lambda: scaling,
    "edges": lambda: undefined,
}


def test_a_good_one_passes():
    assert len(check("scores", lambda: good)) == len(checks("scores"))


@pytest.mark.parametrize("name", SCORES)
def test_a_broken_score_fails_its_own_check_alone(name):
    found = failures("scores", SCORES[name])
    assert list(found) == [f"check_{name}"], found


def test_every_check_has_something_that_it_catches():
    assert {f"check_{name}" for name in SCORES} == set(checks("scores"))


@pytest.mark.parametrize("score", [not_finite, by_order, crashes])
def test_others_are_caught(score):
    assert failures("scores", lambda: score)
