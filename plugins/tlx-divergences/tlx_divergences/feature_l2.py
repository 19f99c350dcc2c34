"""Feature L2: how far the features have moved from the source's, on the target's pictures.

Holds the network by what it computes instead of by its weights: it may change wherever the
target's pictures do not look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Features
from tlx_divergences.named import pair


@final
@dataclass(frozen=True)
class FeatureL2:
    """Mean over `features` of ½ mean (f − f⁰)², the inner mean over all elements (B, positions
    and channels), so its size depends neither on the batch nor on the width.

    f are the current features, f⁰ the source model's of the same pictures. It is the feature
    term of DELTA (Li et al. 2019, arXiv:1901.09229, section 3.2) without attention, with means
    for sums, and the hint of FitNets (arXiv:1412.6550) without a regressor.

    Args:
        features: names of the features to hold; `pooled` is the deepest by convention.
    """

    features: tuple[str, ...] = ("pooled",)

    def __post_init__(self) -> None:
        """Refuse an empty list."""
        if not self.features:
            raise ConfigError("feature_l2 compares features and `features` names none.")

    def __call__(self, *, features: Features, source_features: Features) -> Array:
        """A scalar; 0 at the source. Raises ConfigError for a feature that is missing or has
        another shape in the source."""
        total = jnp.zeros(())
        for name in self.features:
            now, then = pair(features, source_features, name, "feature_l2")
            total = total + jnp.square(now - then).mean() / 2
        return total / len(self.features)
