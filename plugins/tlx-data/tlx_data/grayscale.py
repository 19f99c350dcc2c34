"""Grayscale: a picture loses its colours, or not.

Keeps a network from telling pictures apart by their colours alone (Chen et al. 2020, SimCLR,
arXiv:2002.05709, appendix A). Luma is ITU-R 601, as in `color_jitter`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array

from tlx_data.color_jitter import luma
from tlx_data.sometimes import check_probability, sometimes


@final
@dataclass(frozen=True)
class Grayscale:
    """With the given `probability` (0 to 1) the three channels of (H,W,3) all become its luma."""

    probability: float = 0.2

    def __post_init__(self) -> None:
        check_probability("grayscale", self.probability)

    @property
    def keeps_places(self) -> bool:
        """Values change, and nothing moves."""
        return True

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture, or the same in grey."""
        return sometimes(rng, self.probability, jnp.broadcast_to(luma(image), image.shape), image)
