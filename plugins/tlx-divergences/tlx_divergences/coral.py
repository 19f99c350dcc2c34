"""CORAL: how far apart the covariances of two samples are.

It aligns how features vary together and leaves their means alone, which a linear head on top can
shift by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax.numpy as jnp
from jax import Array

from tlx.types import Features
from tlx_divergences.samples import samples


@final
@dataclass(frozen=True)
class Coral:
    """‖C_S − C_T‖²_F / 4d², the sum of squares over all d² entries, of the covariances C_S of the
    labelled batch's features and C_T of the domain batch's, each with 1 / (n − 1) (Sun and
    Saenko 2016, arXiv:1607.01719, equations 1 to 3).

    0 at equal samples, and wherever two samples differ by a shift only. 4d² makes it small: the
    paper chooses a weight with which it ends about as large as the task's loss. A covariance
    belongs to the whole batch: the value does not add up over micro-batches.

    Args:
        feature: the feature to compare, d channels; positions of a map or of tokens are averaged.
    """

    whole_batch: ClassVar[str] = "its covariances are those of all examples together"
    smallest_batch: ClassVar[int] = 2
    feature: str = "pooled"

    def __call__(self, *, features: Features, domain_features: Features) -> Array:
        """A scalar, 0 or more. Raises ConfigError for a feature that is missing and for fewer than
        two examples in a batch, which have no covariance."""
        here, there = samples(features, domain_features, self.feature, "coral", self.smallest_batch)
        apart = _covariance(here) - _covariance(there)
        return jnp.sum(jnp.square(apart)) / (4 * here.shape[1] ** 2)


def _covariance(x: Array) -> Array:
    x = x - x.mean(0)
    return jnp.matmul(x.T, x, precision="highest") / (len(x) - 1)
