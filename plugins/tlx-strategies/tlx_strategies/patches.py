"""Square patches of pictures: cut, hide, and score what was predicted for the hidden ones.

The target is every patch's own contrast: its mean and its spread are taken out, so that guessing
the average colour earns nothing (He et al. 2022, arXiv:2111.06377, section 4).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


def cut(picture: Array, patch: int) -> Array:
    """(B,H,W,C) -> (B,n,patch*patch*C), row by row; `patch` divides H and W."""
    b, h, w, c = picture.shape
    tiles = picture.reshape(b, h // patch, patch, w // patch, patch, c)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def laid(patches: Array, patch: int, picture: tuple[int, ...]) -> Array:
    """The way back of `cut`: (B,n,P) -> a picture of shape (B,H,W,C)."""
    b, h, w, c = picture
    tiles = patches.reshape(b, h // patch, w // patch, patch, patch, c)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(picture)


def hidden_count(patches: int, ratio: float) -> int:
    """How many of at least two patches are hidden: the share `ratio`, but one at least and not
    all."""
    return min(max(round(ratio * patches), 1), patches - 1)


def hide(keys: Array, patches: int, ratio: float) -> Array:
    """(B,patches) True where hidden, one key per picture: exactly `hidden_count` of them."""
    drawn = jax.vmap(lambda key: jax.random.permutation(key, patches))(keys)
    return drawn < hidden_count(patches, ratio)


def spread(hidden: Array, patch: int, size: tuple[int, ...]) -> Array:
    """A mask per patch (B,n) as one per pixel (B,H,W,1); `size` is (H,W)."""
    rows, columns = size[0] // patch, size[1] // patch
    grid = hidden.reshape(-1, rows, columns)
    return jnp.repeat(jnp.repeat(grid, patch, 1), patch, 2)[..., None]


def blank(picture: Array, pixels: Array) -> Array:
    """The picture with every pixel of the mask (B,H,W,1) replaced by the mean of the others, per
    picture and channel: nothing of what is hidden can be seen."""
    seen = ~pixels
    mean = jnp.where(seen, picture, 0).sum((1, 2), keepdims=True) / seen.sum((1, 2), keepdims=True)
    return jnp.where(pixels, mean, picture)


class Level(NamedTuple):
    """What is taken out of patches: their mean and their standard deviation, (B,n,1) each."""

    mean: Array
    deviation: Array


def level(patches: Array) -> Level:
    """Of every patch (B,n,P); the deviation is never 0, so that flat patches can be divided."""
    variance = patches.var(-1, keepdims=True)
    return Level(patches.mean(-1, keepdims=True), jnp.sqrt(variance + 1e-6))


def contrast(patches: Array) -> Array:
    """(B,n,P) with mean 0 and variance 1 within every patch; flat patches are 0."""
    mean, deviation = level(patches)
    return (patches - mean) / deviation


def hidden_error(predicted: Array, target: Array, hidden: Array) -> Array:
    """(B,) mean squared error over the hidden patches alone; all (B,n,P), the mask (B,n).

    Against `contrast` targets 0 is perfect, and predicting nothing but 0 gives 1."""
    error = jnp.square(predicted - target).mean(-1)
    return jnp.where(hidden, error, 0).sum(-1) / hidden.sum(-1)
