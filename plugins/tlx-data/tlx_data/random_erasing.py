"""Random erasing: a rectangle of the picture becomes noise, or not.

Zhong et al. 2017, "Random erasing data augmentation" (arXiv:1708.04896), algorithm 1 with random
values, the best of those it compares: no single part of an object may be all that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx_data.sometimes import check_probability, sometimes

TRIES = 10
"""Rectangles that are drawn, of which the first that lies within the picture is taken."""


@final
@dataclass(frozen=True)
class RandomErasing:
    """With the given `probability` (0 to 1) a rectangle of (H,W,C) becomes uniform noise in 0..1.

    `scale` is the range of its share of the area, uniform; `ratio` the range of its height over
    its width in pixels, log-uniform. Its sides are whole pixels and less than the picture's, its
    place is uniform. Where ten rectangles in a row are too long, the picture stays as it is."""

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        check_probability("random_erasing", self.probability)
        if not 0 < self.scale[0] <= self.scale[1] < 1:
            raise ConfigError(f"random_erasing: scale = {self.scale} is no range within 0 to 1.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"random_erasing: ratio = {self.ratio} is no range above 0.")

    @property
    def keeps_places(self) -> bool:
        """What is left stays where it is."""
        return True

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture, or the same with a hole."""
        for_area, for_ratio, for_place, for_noise, for_chance = jax.random.split(rng, 5)
        size = jnp.asarray(image.shape[:2])
        low, high = self.scale
        area = jax.random.uniform(for_area, (TRIES,), minval=low, maxval=high) * size.prod()
        low, high = jnp.log(jnp.asarray(self.ratio))
        ratio = jnp.exp(jax.random.uniform(for_ratio, (TRIES,), minval=low, maxval=high))
        sides = jnp.round(jnp.sqrt(jnp.stack([area * ratio, area / ratio], -1))).astype(int)
        fits = (sides < size).all(-1)
        # Where none fits, the hole is empty.
        hole = jnp.where(fits.any(), sides[fits.argmax()], 0)
        start = jax.random.randint(for_place, (2,), 0, size - hole + 1)
        noise = jax.random.uniform(for_noise, image.shape, image.dtype)
        erased = jnp.where(within(start, start + hole, image), noise, image)
        return sometimes(for_chance, self.probability, erased, image)


def within(start: Array, stop: Array, image: Array) -> Array:
    """(H,W,1): which pixels of (H,W,C) lie in the rectangle from `start` to before `stop`, both
    (2,) as (row, column)."""
    rows, columns = jnp.arange(image.shape[0])[:, None, None], jnp.arange(image.shape[1])[:, None]
    down = (rows >= start[0]) & (rows < stop[0])
    return down & (columns >= start[1]) & (columns < stop[1])
