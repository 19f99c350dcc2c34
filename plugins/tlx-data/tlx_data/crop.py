"""Padded random crop: a picture is moved by a few pixels and what enters is black.

The standard augmentation of small pictures: pad by `padding` zeros on every side and cut the
original size at a random place (Krizhevsky 2009; He et al. 2016, section 4.2, with padding 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image.warp import crop_plane

from tlx.contracts.field import Warp
from tlx.errors import ConfigError


@final
@dataclass(frozen=True)
class Crop:
    """Cuts (H,W,C) out of (H+2p,W+2p,C) at a uniform offset, p = `padding` in pixels."""

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ConfigError(f"crop: padding = {self.padding} is negative.")

    def __call__(self, rng: Array, image: Array) -> Array:
        """A picture of the same size, moved by up to `padding` pixels each way."""
        p = self.padding
        top, left = self._offset(rng)
        padded = jnp.pad(image, ((p, p), (p, p), (0, 0)))
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)

    def draw(self, rng: Array, size: tuple[int, int]) -> Warp:
        """How that moves a picture (H,W)."""
        start = self._offset(rng).astype(jnp.float32) - self.padding
        return crop_plane(size, (start[0], start[1]), size)

    def _offset(self, rng: Array) -> Array:
        """(2,) where the padded picture is cut."""
        return jax.random.randint(rng, (2,), 0, 2 * self.padding + 1)
