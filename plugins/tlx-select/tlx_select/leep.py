"""LEEP: how well the source's own answers, taken as a lottery over its classes, predict the labels.

Nguyen et al. 2020, 'LEEP: A New Measure to Evaluate Transferability of Learned Representations'
(arXiv:2002.12462), section 3.
"""

from __future__ import annotations

import numpy as np

from tlx_select.classes_there import classes_there


def leep(*, source_outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """mean log Σ_z P̂(y|z) θ(x)_z in nats, at most 0; the terms (N,).

    θ(x) are the probabilities of the source's classes z, P̂(y,z) = mean of θ(x)_z over all pictures
    with label y counted and the rest as 0. A class z that is never answered is left out: no picture
    has a share in it. Raises ScoreError for a single class."""
    number, count = classes_there(labels)
    return expected_log(source_outputs, number, count)


def expected_log(theta: np.ndarray, number: np.ndarray, count: int) -> np.ndarray:
    """The terms (N,) for a lottery (N,Z) and labels 0..count-1."""
    joint = np.eye(count)[number].T @ theta / len(theta)
    marginal = joint.sum(0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    return np.log(np.sum(given[number] * theta, axis=1))
