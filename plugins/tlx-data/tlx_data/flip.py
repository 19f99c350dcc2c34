"""Horizontal flip: a picture is mirrored left to right, or not.

Right where left and right mean nothing; wrong for letters and digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError


@final
@dataclass(frozen=True)
class Flip:
    """Mirrors a picture (H,W,C) with the given `probability` (0 to 1)."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"flip: probability = {self.probability} is not between 0 and 1.")

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture or its mirror image."""
        return jnp.where(jax.random.bernoulli(rng, self.probability), image[:, ::-1], image)
