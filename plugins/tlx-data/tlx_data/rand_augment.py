"""RandAugment: a few operations drawn at random, all of one magnitude.

Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space"
(arXiv:1909.13719), section 3: no policy is searched for, two numbers say it all. Magnitudes mean
what they do in torchvision's transform of this name, of which 30 is the greatest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx_data.color_jitter import adjust_brightness, adjust_contrast, adjust_saturation
from tlx_data.image_operations import (
    adjust_sharpness,
    auto_contrasted,
    equalized,
    posterized,
    rotation,
    shear,
    solarized,
    translation,
    warped,
)

GREATEST = 30
FARTHEST = 150 / 331
"""Of a side: how far a picture is moved at the greatest magnitude."""

TONES: Mapping[str, Callable[[Array, Array], Array]] = {
    "identity": lambda image, _: image,
    "auto_contrast": lambda image, _: auto_contrasted(image),
    "equalize": lambda image, _: equalized(image),
    "solarize": lambda image, strength: solarized(image, 1 - jnp.abs(strength)),
    "posterize": lambda image, strength: posterized(image, 8 - jnp.round(4 * jnp.abs(strength))),
    "colour": lambda image, strength: adjust_saturation(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength: adjust_contrast(image, 1 + 0.9 * strength),
    "brightness": lambda image, strength: adjust_brightness(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength: adjust_sharpness(image, 1 + 0.9 * strength),
}
"""A picture (H,W,3) and a strength from -1 to 1 to a picture. The first leaves it as it is."""

MOVES: Mapping[str, Callable[[Array, int, int], Array]] = {
    "still": lambda strength, *_: translation(0 * strength, 0 * strength),
    "rotate": lambda strength, height, width: rotation(30 * strength, height, width),
    "shear_x": lambda strength, *_: shear(0.3 * strength, 0 * strength),
    "shear_y": lambda strength, *_: shear(0 * strength, 0.3 * strength),
    "translate_x": lambda s, height, width: translation(FARTHEST * width * s, 0 * s),
    "translate_y": lambda s, height, width: translation(0 * s, FARTHEST * height * s),
}
"""A strength from -1 to 1, height and width to the map of `warped`. The first moves nothing."""

OPERATIONS = (*TONES, *list(MOVES)[1:])


@final
@dataclass(frozen=True)
class RandAugment:
    """Does `count` operations to (H,W,3), each drawn out of 14: identity, auto-contrast, equalize,
    solarize, posterize, colour, contrast, brightness, sharpness, rotate, shear and translate along
    x and y.

    `magnitude` is 0 to 30. At 30 a picture is turned by 30 degrees, sheared by 0.3 or moved by 45 %
    of its side (what enters is black), its colour, contrast, brightness or sharpness changed by a
    factor of 0.1 or 1.9, posterized to 4 bits, or solarized altogether; where there are two
    directions, each is as likely as the other. Places between pixels are bilinear, where
    torchvision takes the nearest one unless told otherwise."""

    count: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"rand_augment: count = {self.count} is not 1 or more.")
        if not 0 <= self.magnitude <= GREATEST:
            raise ConfigError(
                f"rand_augment: magnitude = {self.magnitude} is not between 0 and {GREATEST}."
            )

    def __call__(self, rng: Array, image: Array) -> Array:
        """A picture of the same size."""

        def operated(image: Array, key: Array) -> tuple[Array, None]:
            for_operation, for_direction = jax.random.split(key)
            number = jax.random.randint(for_operation, (), 0, len(OPERATIONS))
            forth = jax.random.bernoulli(for_direction)
            strength = jnp.where(forth, 1.0, -1.0) * (self.magnitude / GREATEST)
            return operation(image, number, strength.astype(image.dtype)), None

        return jax.lax.scan(operated, image, jax.random.split(rng, self.count))[0]


def operation(image: Array, number: Array | int, strength: Array) -> Array:
    """(H,W,3) after the operation of a number in `OPERATIONS`.

    Under `vmap` every branch of a switch is computed, so the moves share one warp, which is the
    dear part, and are told apart by their maps."""
    height, width = image.shape[:2]
    toned = number < len(TONES)
    move = jnp.where(toned, 0, number - len(TONES) + 1)
    maps = [lambda s, of=of: of(s, height, width) for of in MOVES.values()]
    image = warped(image, jax.lax.switch(move, maps, strength).astype(image.dtype))
    return jax.lax.switch(jnp.where(toned, number, 0), list(TONES.values()), image, strength)
