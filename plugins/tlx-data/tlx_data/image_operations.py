"""Operations on one picture: moved by an affine map, or its tones and sharpness changed.

What Pillow's ImageOps, ImageEnhance and Image.transform do to 8-bit pictures, for float pictures
in jit. `rand_augment` draws from them; brightness, contrast and colour are those of `color_jitter`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image import sample_bilinear

from tlx.contracts.field import Warp

LEVELS = 256


def warped(image: Array, inverse: Array) -> Array:
    """(H,W,C) moved, bilinear; what enters is black.

    `inverse` (2,3) leads from a place (x, y, 1) in the result to the place (x, y) that it is taken
    from, in pixels from the upper left corner; centres of pixels lie at halves."""
    size = (image.shape[0], image.shape[1])
    return sample_bilinear(image, Warp(inverse[::-1, [1, 0, 2]], size, size))


def rotation(degrees: Array, height: int, width: int) -> Array:
    """The inverse map (2,3) of a turn around the middle, counter-clockwise."""
    turn = jnp.deg2rad(degrees)
    c, s, x, y = jnp.cos(turn), jnp.sin(turn), width / 2, height / 2
    return jnp.stack([
        jnp.stack([c, -s, x - c * x + s * y]), jnp.stack([s, c, y - s * x - c * y])
    ])  # fmt: skip


def shear(x: Array, y: Array) -> Array:
    """The inverse map (2,3) that takes a place from `x` pixels further to the right for each pixel
    down, and `y` further down for each to the right; the upper left corner stays."""
    return jnp.eye(2, 3).at[0, 1].set(x).at[1, 0].set(y)


def translation(x: Array, y: Array) -> Array:
    """The inverse map (2,3) that takes every place from `x` pixels to the right and `y` down."""
    return jnp.eye(2, 3).at[:, 2].set(jnp.stack([x, y]))


def auto_contrasted(image: Array) -> Array:
    """Each channel of (H,W,C) stretched to 0..1; one without contrast stays."""
    low, high = image.min((0, 1)), image.max((0, 1))
    spread = jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, (image - low) / spread, image)


def equalized(image: Array) -> Array:
    """Each channel of (H,W,C) with a histogram as flat as its 256 levels allow; one that is too
    small or too plain for that stays."""

    def one(channel: Array) -> Array:
        levels = jnp.round(channel * (LEVELS - 1)).astype(jnp.int32)
        counts = jnp.zeros(LEVELS, jnp.int32).at[levels.ravel()].add(1)
        step = (levels.size - counts[levels.max()]) // (LEVELS - 1)
        below = jnp.cumsum(counts) - counts
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), LEVELS - 1)
        return jnp.where(step > 0, table[levels].astype(channel.dtype) / (LEVELS - 1), channel)

    return jax.vmap(one, -1, -1)(image)


def posterized(image: Array, bits: Array) -> Array:
    """(H,W,C) with the upper `bits` (0 to 8) of 8-bit values alone."""
    coarse = jnp.exp2(8 - bits)
    return jnp.floor(jnp.round(image * (LEVELS - 1)) / coarse) * coarse / (LEVELS - 1)


def solarized(image: Array, threshold: Array | float) -> Array:
    """(H,W,C) with values of at least `threshold` turned into 1 minus themselves."""
    return jnp.where(image >= threshold, 1 - image, image)


def adjust_sharpness(image: Array, factor: Array) -> Array:
    """(H,W,C) towards a mean over 3x3 pixels, of which the middle counts five times (0), unchanged
    (1), away from it; the outermost pixels stay."""
    height, width = image.shape[:2]
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    around = (padded[i : i + height, j : j + width] for i in range(3) for j in range(3))
    soft = (sum(around, 4 * image)) / 13
    rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inner = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    return jnp.where(inner, jnp.clip(soft + (image - soft) * factor, 0, 1), image)
