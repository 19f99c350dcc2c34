"""NLEEP: LEEP for a source without a head, with clusters of its features in place of its classes.

Li et al. 2021, 'Ranking Neural Checkpoints' (CVPR, arXiv:2011.11200): principal
components that keep 80 % of the energy, a mixture of Gaussians on them, LEEP of its posteriors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from tlx.errors import ScoreError
from tlx_select.canonical_order import canonical_order
from tlx_select.classes_there import classes_there, constant
from tlx_select.leep import expected_log


@final
@dataclass(frozen=True)
class NLEEP:
    """mean log Σ_v P̂(y|v) P(v|x) in nats, at most 0; the terms (N,).

    Args:
        energy: share of the variance that the principal components keep.
        components_per_class: Gaussians of the mixture for each class of the target.
        pictures_per_component: how many pictures there are at least for each Gaussian: one that
            holds a single picture knows its label, and says nothing of the source.
        covariance: of each Gaussian along the components: `diag`, or `full`, which for many of
            them has too few pictures to go by and takes minutes.
    """

    energy: float = 0.8
    components_per_class: int = 5
    pictures_per_component: int = 5
    covariance: Literal["diag", "full"] = "diag"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not 0 < self.energy <= 1:
            raise ValueError(f"energy is a share above 0 and at most 1, not {self.energy}.")
        for name in ("components_per_class", "pictures_per_component"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, not {getattr(self, name)}.")

    def __call__(self, *, features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """The terms. Raises ScoreError for a single class, constant features, and too few
        pictures for two Gaussians."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        number, count = classes_there(labels)
        if constant(features):
            raise ScoreError("The features are the same for every picture.")
        most = len(features) // self.pictures_per_component
        components = min(self.components_per_class * count, most)
        if components < 2:
            raise ScoreError(
                f"It clusters features, {self.pictures_per_component} pictures a cluster at least, "
                f"and there are {len(features)} pictures."
            )
        order = canonical_order(features)
        kept = principal(features[order], self.energy)
        mixture = GaussianMixture(components, covariance_type=self.covariance, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # clusters, not their last digit
            posterior = mixture.fit(kept).predict_proba(kept)
        terms = np.empty(len(features))
        terms[order] = expected_log(posterior, number[order], count)
        return terms


def principal(features: np.ndarray, energy: float) -> np.ndarray:
    """(N,K) coordinates along the fewest principal components that keep a share of the variance,
    in units of the largest deviation along one."""
    u, s, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    keep = int(np.searchsorted(share, min(energy, share[-1]))) + 1
    return u[:, :keep] * s[:keep] / s[0] * np.sqrt(len(features))
