"""Horizontal flip: a picture is mirrored left to right, or not.

Right where left and right mean nothing; wrong for letters and digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array
from tlx_image.warp import flip_plane, identity

from tlx.contracts.field import Warp
from tlx_data.sometimes import check_probability, sometimes


@final
@dataclass(frozen=True)
class Flip:
    """Mirrors a picture (H,W,C) with the given `probability` (0 to 1)."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("flip", self.probability)

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture or its mirror image."""
        return sometimes(rng, self.probability, image[:, ::-1], image)

    def draw(self, rng: Array, size: tuple[int, int]) -> Warp:
        """How that moves a picture (H,W)."""
        mirrored, same = (
            jnp.asarray(w.matrix, jnp.float32) for w in (flip_plane(size), identity(size))
        )
        return Warp(sometimes(rng, self.probability, mirrored, same), size, size)
