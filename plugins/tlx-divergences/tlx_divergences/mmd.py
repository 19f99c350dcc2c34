"""MMD: how far apart the means of two samples are in a space of kernels.

With Gaussian kernels it is zero only for equal distributions, so that features which bring it
down look alike in both domains in every moment, not only in their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Features
from tlx_divergences.not_below import not_below_zero
from tlx_divergences.samples import samples
from tlx_divergences.squared_distances import squared_distances


@final
@dataclass(frozen=True)
class MMD:
    """MMD² = mean k(s,s') + mean k(t,t') − 2 mean k(s,t) between the features s of the labelled
    batch and t of the domain batch (Gretton et al. 2012, JMLR 13, section 2.2, lemma 6).

    k is the mean over Gaussian kernels exp(−‖x − y‖² / 2σ²), a mixture as in DAN (Long et al.
    2015, arXiv:1502.02791), so that 0 ≤ k ≤ 1 and the value does not depend on the width. The
    means are over all pairs ('biased', 0 or more, 0 at equal samples) or, within a batch, over
    pairs of two different examples ('unbiased': its expectation is the distance of the two
    distributions, so it may be negative and is about 0 or below at equal samples). It compares
    all pairs and does not add up over micro-batches.

    Args:
        feature: the feature to compare; positions of a map or of tokens are averaged.
        estimator: 'biased' or 'unbiased'; the second needs two examples in either batch.
        bandwidths: σ of each kernel, in units of the feature. Empty takes the median heuristic:
            σ² is the median of ‖x − y‖² over all pairs of the two batches together (Gretton et
            al., section 8) times each of `multiples`. It follows the features and carries no
            gradient; it is 1 where half of the pairs are equal points.
        multiples: factors of the median σ², without meaning where `bandwidths` are given.
    """

    whole_batch: ClassVar[str] = "it compares all pairs of examples"
    feature: str = "pooled"
    estimator: Literal["biased", "unbiased"] = "biased"
    bandwidths: tuple[float, ...] = ()
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        """Refuse an unknown estimator and widths that are not above 0."""
        if self.estimator not in ("biased", "unbiased"):
            raise ConfigError(
                f"estimator of mmd is 'biased' or 'unbiased', not {self.estimator!r}."
            )
        if not all(width > 0 for width in (*self.bandwidths, *self.multiples)):
            raise ConfigError(
                f"bandwidths and multiples of mmd are widths of kernels and must be above 0, not "
                f"{self.bandwidths} and {self.multiples}."
            )
        if not (self.bandwidths or self.multiples):
            raise ConfigError("mmd has no kernel: give it bandwidths or multiples of the median.")

    @property
    def smallest_batch(self) -> int:
        """Two for pairs of two different examples."""
        return 1 if self.estimator == "biased" else 2

    def __call__(self, *, features: Features, domain_features: Features) -> Array:
        """A scalar. Raises ConfigError for a feature that is missing and for too few examples."""
        biased = self.estimator == "biased"
        here, there = samples(features, domain_features, self.feature, "mmd", self.smallest_batch)
        both = jnp.concatenate([here, there])
        distances = squared_distances(both, both)
        kernel = jnp.mean(jnp.exp(-distances / (2 * self._variances(distances))[:, None, None]), 0)
        n, m = len(here), len(there)
        own = kernel if biased else kernel * (1 - np.eye(n + m, dtype=kernel.dtype))
        pairs_here, pairs_there = (n * n, m * m) if biased else (n * (n - 1), m * (m - 1))
        within = own[:n, :n].sum() / pairs_here + own[n:, n:].sum() / pairs_there
        found = within - 2 * kernel[:n, n:].mean()
        return not_below_zero(found) if biased else found

    def _variances(self, distances: Array) -> Array:
        """(kernels,) σ² for the squared distances (N,N) of all points."""
        if self.bandwidths:
            return jnp.square(jnp.asarray(self.bandwidths, distances.dtype))
        pairs = distances[np.triu_indices(len(distances), 1)]
        median = jnp.median(jax.lax.stop_gradient(pairs))
        return jnp.where(median > 0, median, 1) * jnp.asarray(self.multiples, distances.dtype)
