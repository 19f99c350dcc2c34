"""How far a network has gone from where it started: in its parameters, and in what it says.

Parameters may move far without changing what the network does, and the other way round; so both
are looked at. Everything here is numpy in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def relative_l2(
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    groups: Callable[[str], tuple[str, ...]],
) -> dict[str, float]:
    """‖w − w₀‖ / ‖w₀‖ of the leaves of each group, in the order of the leaves; 0 where nothing
    moved, inf where all of w₀ is 0 and w is not. A leaf is of as many groups as `groups` says."""
    squares: dict[str, np.ndarray] = {}
    for path, then in before.items():
        then, now = (np.asarray(leaf, np.float64) for leaf in (then, after[path]))
        pair = np.array([np.square(now - then).sum(), np.square(then).sum()])
        for name in groups(path):
            squares[name] = squares.get(name, 0) + pair
    return {
        name: float(np.sqrt(moved / size)) if size else float(np.inf if moved else 0)
        for name, (moved, size) in squares.items()
    }


def cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear CKA of two features (N,D) and (N,E) of the same N examples: 1 where one is the other
    rotated and scaled, around 0 where they are unrelated (Kornblith et al. 2019, arXiv:1905.00414).

    HSIC in its unbiased estimate (Nguyen et al. 2021, arXiv:2010.15327, equation 3), so that wide
    features of few examples do not look alike. None for fewer than 4 examples or where a feature
    is the same for all."""
    if len(x) < 4:
        return None
    a, b = _similarities(x), _similarities(y)
    if a is None or b is None:
        return None
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _similarities(x: np.ndarray) -> np.ndarray | None:
    """(N,N): the Gram matrix without its diagonal, centred so that the sum of products of two of
    them is N(N-3) times their unbiased HSIC; None for features without any spread."""
    x = np.asarray(x, np.float64)
    n, centred = len(x), x - x.mean(0)
    if np.abs(centred).max() <= 1e-6 * max(np.abs(x).max(), 1e-30):
        return None
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0)
    row = gram.sum(0) / (n - 2)
    gram = gram - row - row[:, None] + row.sum() / (n - 1)
    np.fill_diagonal(gram, 0)
    return gram


def kl(before: np.ndarray, after: np.ndarray) -> float:
    """Mean KL(p₀ ‖ p) in nats over examples, of the classes that logits (N,C) give."""
    then, now = _log_softmax(before), _log_softmax(after)
    return float((np.exp(then) * (then - now)).sum(1).mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
