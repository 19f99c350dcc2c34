"""How alike tasks are: data sets as one network sees them, and networks by the same pictures.

Between data sets: Task2Vec's distance of what their tasks need of the network, and the maximum mean
discrepancy and the sliced Wasserstein distance of its features. Between networks: CKA of their
features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlx.errors import ScoreError
from tlx.numerics.drift import cka
from tlx.selection.candidates import Candidate
from tlx.selection.source_words import SourceWords, Target

LINES = 256
"""Random directions of the sliced Wasserstein distance."""


def between_sources(words: Sequence[SourceWords]) -> list[dict[str, Any]]:
    """The matrix of CKA between sources on the same pictures; none where one has no features."""
    names = [one.candidate.name for one in words]
    try:
        features = [one.seen.features for one in words]
    except ScoreError:
        return []
    said = "How alike what two sources say of the target's pictures is: 1 is alike."
    return [_square("cka", names, features, linear_cka, said, same=1.0)]


def between_data(
    targets: Sequence[Target], names: Sequence[str], probe: Candidate, seed: int
) -> list[dict[str, Any]]:
    """Matrices of distances between data sets as the network of `probe` sees them."""
    words = [SourceWords(probe, target, seed) for target in targets]
    features = [one.seen.features for one in words]
    tasks = [one["task_embedding"] for one in words]
    seen = f"as {probe.name} sees them; 0 is alike."
    return [
        _square(
            "task2vec", names, tasks, task_distance,
            f"How different the filters are that two tasks need, {seen}",
        ),
        _square("mmd", names, features, mmd, f"MMD² of the features of two data sets, {seen}"),
        _square(
            "wasserstein", names, features, lambda a, b: sliced_wasserstein(a, b, seed),
            f"Sliced Wasserstein distance of the features of two data sets, {seen}",
        ),
    ]  # fmt: skip


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """`tlx.numerics.drift.cka` of features (N,D) and (N,E) of the same pictures, about 0 for
    unrelated ones and 1 for equal ones; 0 where one of them is constant."""
    found = cka(one, other)
    return 0.0 if found is None else found


def mmd(one: np.ndarray, other: np.ndarray) -> float:
    """MMD² of samples (N,D) and (M,D), unbiased, so that it can fall a little below 0 (Gretton et
    al. 2012, equation 3), with a Gaussian kernel whose σ² is half the median squared distance."""
    both = np.concatenate([one, other])
    square = np.square(both).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * both @ both.T, 0)
    median = np.median(distance[np.triu_indices(len(both), 1)])
    kernel = np.exp(-distance / (median or 1.0))
    n, m = len(one), len(other)
    within, across = kernel[:n, :n], kernel[:n, n:]
    beside = kernel[n:, n:]
    return float(
        (within.sum() - n) / (n * (n - 1)) + (beside.sum() - m) / (m * (m - 1)) - 2 * across.mean()
    )


def sliced_wasserstein(one: np.ndarray, other: np.ndarray, seed: int = 0) -> float:
    """√ of the mean over random lines of W₂² between samples (N,D) and (M,D) projected onto them
    (Bonneel et al. 2015), in units of the features; each W₂² is exact for any N and M."""
    lines = np.random.default_rng(seed).normal(size=(one.shape[1], LINES))
    lines /= np.linalg.norm(lines, axis=0)
    a, b = (np.sort(x @ lines, axis=0) for x in (one, other))
    ends = np.union1d(np.arange(1, len(a) + 1) / len(a), np.arange(1, len(b) + 1) / len(b))
    middle = ends - np.diff(ends, prepend=0) / 2
    rows = [(middle * len(x)).astype(int) for x in (a, b)]
    gaps = np.square(a[rows[0]] - b[rows[1]])
    return float(np.sqrt(np.mean(np.diff(ends, prepend=0) @ gaps)))


def task_distance(one: np.ndarray, other: np.ndarray) -> float:
    """1 − cos(F/(F+F'), F'/(F+F')) of two embeddings (F,) (Achille et al. 2019, section 3)."""
    both = one + other
    a, b = (np.divide(x, both, out=np.zeros_like(x), where=both > 0) for x in (one, other))
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(1 - a @ b / lengths) if lengths > 0 else 0.0


def _square(
    name: str,
    names: Sequence[str],
    things: Sequence[np.ndarray],
    measure: Callable[[np.ndarray, np.ndarray], float],
    text: str,
    same: float = 0.0,
) -> dict[str, Any]:
    """A symmetric matrix with `same` on its diagonal."""
    matrix = np.full((len(things), len(things)), same)
    for i, one in enumerate(things):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = measure(one, things[j])
    return {"measure": name, "names": list(names), "matrix": matrix.tolist(), "text": text}
