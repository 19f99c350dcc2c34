"""Random resized crop: a random part of the picture, stretched to the whole.

The augmentation that ImageNet networks are trained with (Szegedy et al. 2015, "Going deeper with
convolutions", section 6): the part's share of the area and its proportions are random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.contracts.field import Warp
from tlx.errors import ConfigError


@final
@dataclass(frozen=True)
class ResizedCrop:
    """Cuts a part of (H,W,C) and resizes it, bilinear with antialiasing, to (H,W,C).

    `scale` is the range of the part's share of the area, uniform; `ratio` the range of its width
    over its height relative to the picture's, log-uniform. A part that would be wider or taller
    than the picture is clipped to it. Edges fall between pixels, not on them."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"resized_crop: scale = {self.scale} is no range within 0 to 1.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"resized_crop: ratio = {self.ratio} is no range above 0.")

    def __call__(self, rng: Array, image: Array) -> Array:
        """A picture of the same size."""
        return resized_part(image, *self._part(rng))

    def draw(self, rng: Array, size: tuple[int, int]) -> Warp:
        """How that moves a picture (H,W)."""
        start, part = self._part(rng)
        offset = start * jnp.asarray(size, start.dtype)
        return Warp(jnp.column_stack([jnp.diag(part), offset]), size, size)

    def _part(self, rng: Array) -> tuple[Array, Array]:
        """Where the part begins and its sides, as `resized_part` takes them."""
        for_area, for_ratio, for_place = jax.random.split(rng, 3)
        area = jax.random.uniform(for_area, (), minval=self.scale[0], maxval=self.scale[1])
        low, high = jnp.log(jnp.asarray(self.ratio))
        ratio = jnp.exp(jax.random.uniform(for_ratio, (), minval=low, maxval=high))
        # Sides of the part (height, width) as shares of the picture's.
        part = jnp.minimum(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)]), 1.0)
        start = jax.random.uniform(for_place, (2,)) * (1 - part)
        return start, part


def resized_part(image: Array, start: Array, part: Array) -> Array:
    """The part of (H,W,C) that begins at `start` (2,) and has the sides `part` (2,), both (height,
    width) as shares of the picture's, resized to (H,W,C)."""
    size = jnp.asarray(image.shape[:2], image.dtype)
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / part, -start / part * size, "linear", antialias=True
    )
