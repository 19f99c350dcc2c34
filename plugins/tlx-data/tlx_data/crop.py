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
        top, left = jax.random.randint(rng, (2,), 0, 2 * p + 1)
        padded = jnp.pad(image, ((p, p), (p, p), (0, 0)))
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
