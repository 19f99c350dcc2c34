"""Colour jitter: brightness, contrast, saturation and hue change at random.

Factors around 1 as in torchvision's transform of this name; brightness, contrast, saturation and
hue are changed in this order. Luma is ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
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
class ColorJitter:
    """Changes the colours of an RGB picture (H,W,3), each result clipped to 0..1.

    `brightness`, `contrast` and `saturation` draw a factor from 1 - s to 1 + s (not below 0);
    `hue` turns the colour circle by -s to s, in turns (at most 0.5). 0 leaves it as it is. With
    `probability` below 1 some pictures stay as they are altogether."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability("color_jitter", self.probability)
        for name in ("brightness", "contrast", "saturation", "hue"):
            value = getattr(self, name)
            if value < 0 or (name == "hue" and value > 0.5):
                top = "0.5" if name == "hue" else "infinity"
                raise ConfigError(f"color_jitter: {name} = {value} is not between 0 and {top}.")

    @property
    def keeps_places(self) -> bool:
        """Values change, and nothing moves."""
        return True

    def __call__(self, rng: Array, image: Array) -> Array:
        """A picture of the same size."""
        steps = (
            (self.brightness, adjust_brightness, 1.0),
            (self.contrast, adjust_contrast, 1.0),
            (self.saturation, adjust_saturation, 1.0),
            (self.hue, adjust_hue, 0.0),
        )
        before = image
        for key, (strength, adjust, centre) in zip(jax.random.split(rng, 4), steps, strict=True):
            if strength > 0:
                low = max(centre - strength, 0.0) if centre else -strength
                amount = jax.random.uniform(key, (), image.dtype, low, centre + strength)
                image = adjust(image, amount)
        return sometimes(jax.random.fold_in(rng, len(steps)), self.probability, image, before)


def luma(image: Array) -> Array:
    """(H,W,1) brightness as the eye sees it."""
    return (image @ jnp.asarray([0.299, 0.587, 0.114], image.dtype))[..., None]


def adjust_brightness(image: Array, factor: Array) -> Array:
    """Towards black (0), unchanged (1), brighter."""
    return jnp.clip(image * factor, 0, 1)


def adjust_contrast(image: Array, factor: Array) -> Array:
    """Towards the picture's mean luma (0), unchanged (1), away from it."""
    mean = luma(image).mean()
    return jnp.clip(mean + (image - mean) * factor, 0, 1)


def adjust_saturation(image: Array, factor: Array) -> Array:
    """Towards grey (0), unchanged (1), away from it."""
    grey = luma(image)
    return jnp.clip(grey + (image - grey) * factor, 0, 1)


def adjust_hue(image: Array, turns: Array) -> Array:
    """Every colour moves around the HSV colour circle by `turns`; value and saturation stay."""
    value, low = image.max(-1), image.min(-1)
    chroma = value - low
    safe = jnp.where(chroma > 0, chroma, 1)
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    sector = jnp.where(
        value == r,
        (g - b) / safe,
        jnp.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe),
    )
    hue = sector + 6 * turns
    # Each channel is value - chroma * a trapezium of the hue, shifted by 5, 3 and 1 sixths.
    k = (jnp.asarray([5.0, 3.0, 1.0], image.dtype) + hue[..., None]) % 6
    ramp = jnp.clip(jnp.minimum(k, 4 - k), 0, 1)
    return jnp.clip(value[..., None] - chroma[..., None] * ramp, 0, 1)
