"""Gaussian blur: a picture loses its finest detail, more or less of it, or not.

With a deviation drawn between 0.1 and 2 pixels and a window of a tenth of the side, as in SimCLR
(Chen et al. 2020, arXiv:2002.05709, appendix A).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx_data.sometimes import check_probability, sometimes


@final
@dataclass(frozen=True)
class Blur:
    """Blurs (H,W,C) with the given `probability` (0 to 1).

    The Gaussian's deviation is uniform in the range `sigma`, in pixels. It is cut off outside of a
    window that is `window` (0 to 1) of the shorter side wide, an odd number of pixels and at least
    3; beyond its edge the picture goes on as its reflection."""

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    window: float = 0.1

    def __post_init__(self) -> None:
        check_probability("blur", self.probability)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ConfigError(f"blur: sigma = {self.sigma} is no range above 0.")
        if not 0 < self.window <= 1:
            raise ConfigError(f"blur: window = {self.window} is not between 0 and 1.")

    @property
    def keeps_places(self) -> bool:
        """Values change, and nothing moves."""
        return True

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture, or the same blurred."""
        for_sigma, for_chance = jax.random.split(rng)
        low, high = self.sigma
        sigma = jax.random.uniform(for_sigma, (), image.dtype, low, high)
        radius = max(int(min(image.shape[:2]) * self.window) // 2, 1)
        return sometimes(for_chance, self.probability, blurred(image, sigma, radius), image)


def blurred(image: Array, sigma: Array, radius: int) -> Array:
    """(H,W,C) under a Gaussian of deviation `sigma` over 2 * `radius` + 1 pixels each way, edges
    reflected without repeating them; `radius` is below both sides."""
    places = jnp.arange(-radius, radius + 1, dtype=image.dtype)
    weights = jax.nn.softmax(-0.5 * jnp.square(places / sigma))
    for axis in (0, 1):
        around = [(radius, radius) if axis == a else (0, 0) for a in range(3)]
        padded, size = jnp.pad(image, around, mode="reflect"), image.shape[axis]
        # Shifted sums and not a convolution: under vmap every picture has weights of its own.
        shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(len(places)))
        image = sum((w * x for w, x in zip(weights, shifted, strict=True)), jnp.zeros_like(image))
    return image
