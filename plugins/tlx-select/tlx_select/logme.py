"""LogME: the evidence of a Bayesian linear model that reads the labels from the features.

You et al. 2021, 'LogME: Practical Assessment of Pre-trained Models for Transfer Learning'
(arXiv:2102.11005), section 4. Every class against the rest is a regression on 0 and 1;
how strong the prior is and how large the noise, the evidence itself decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tlx.errors import ScoreError
from tlx_select.classes_there import classes_there


@final
@dataclass(frozen=True)
class LogME:
    """max over α, β of log p(y | f, α, β) / N in nats, mean over the classes one against the rest:
    y = f w + noise, w ~ N(0, 1/α), noise ~ N(0, 1/β), without an intercept, as in the paper.

    Args:
        iterations: of the fixed point for α / β, at most.
        tolerance: it ends where α / β changes by a smaller share.
    """

    iterations: int = 1000
    tolerance: float = 1e-5

    def __call__(self, *, features: np.ndarray, labels: np.ndarray) -> float:
        """One number. Raises ScoreError for a single class, features that are all 0, and features
        that reproduce the labels without error though they are fewer than the pictures: then the
        evidence has no maximum."""
        number, count = classes_there(labels)
        targets = np.eye(count)[number]
        u, s, _ = np.linalg.svd(features, full_matrices=False)
        kept = s > s[0] * max(features.shape) * np.finfo(float).eps
        if not kept.any():
            raise ScoreError("The features are all 0.")
        sigma = s[kept, None] ** 2
        inside = (u[:, kept].T @ targets) ** 2
        whole = targets.sum(0)
        outside = np.maximum(whole - inside.sum(0), 0)
        if kept.sum() < len(features) and np.any(outside < 1e-12 * whole):
            raise ScoreError(
                "The features reproduce the labels without error, so that the evidence has no "
                "maximum: pictures that are there more than once, or a feature that is the label."
            )
        t = self._ratio(sigma, inside, outside, len(features))
        rest = np.sum(inside * t / (t + sigma), axis=0) + outside
        each = np.sum(np.log(t) - np.log(t + sigma), axis=0)
        each += len(features) * (np.log(len(features) / rest) - 1 - np.log(2 * np.pi))
        return float(np.mean(each) / 2 / len(features))

    def _ratio(
        self, sigma: np.ndarray, inside: np.ndarray, outside: np.ndarray, pictures: int
    ) -> np.ndarray:
        """α / β of every class where the evidence is largest: the fixed point of α = γ / m² and
        β = (N − γ) / r², m the mean weights, r the residuals, γ the weights that count."""
        low, high = 1e-10 * sigma.max(), 1e10 * sigma.max()
        t = np.ones(inside.shape[1])
        for _ in range(self.iterations):
            effective = np.sum(sigma / (sigma + t), axis=0)
            weights = np.sum(sigma * inside / (sigma + t) ** 2, axis=0)
            residual = np.sum(inside * (t / (sigma + t)) ** 2, axis=0) + outside
            floor = np.finfo(float).tiny
            alpha = effective / np.maximum(weights, floor)
            noise = residual / np.maximum(pictures - effective, floor)
            before, t = t, np.clip(alpha * noise, low, high)
            if np.all(np.abs(t - before) <= self.tolerance * before):
                break
        return t
