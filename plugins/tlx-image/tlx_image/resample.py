"""What is seen through a warp: the nearest pixel, four of them weighed, or a resized part.

What lies outside of the original is `fill`. A warp that mirrors, or moves by whole pixels, moves
every number as it is. On the host images are resized by Pillow, with antialiasing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from tlx.contracts.field import Warp
from tlx_image.decode import resize
from tlx_image.warp import array_module, find_pixels, invert, move_points


def sample_nearest(values: Any, warp: Warp, fill: Any) -> Any:
    """(H,W,...) of either kind of array: of every pixel of the result the one of the original that
    its centre lies in. For numbers between which there are none, such as classes."""
    xp, (height, width) = array_module(values, warp.matrix), warp.original
    if xp is np and warp.matrix[0, 1] == warp.matrix[1, 0] == 0:
        return _rows_and_columns(values, warp, fill)
    y, x, inside = find_pixels(warp)
    row = xp.clip(xp.floor(y), 0, height - 1).astype(xp.int32)
    column = xp.clip(xp.floor(x), 0, width - 1).astype(xp.int32)
    found = xp.asarray(values)[row, column]
    inside = inside.reshape(inside.shape + (1,) * (found.ndim - 2))
    return xp.where(inside, found, xp.asarray(fill, found.dtype))


def _rows_and_columns(values: np.ndarray, warp: Warp, fill: Any) -> np.ndarray:
    """The same of a warp that turns nothing, whose rows and columns are chosen by themselves."""
    found = values
    for axis in (0, 1):
        at = warp.matrix[axis, axis] * (np.arange(warp.size[axis]) + 0.5) + warp.matrix[axis, 2]
        last = warp.original[axis] - 1
        found = found.take(np.clip(np.floor(at), 0, last).astype(np.intp), axis)
        outside = (at < 0) | (at >= last + 1)
        found[(slice(None),) * axis + (outside,)] = fill
    return found


def sample_bilinear(image: Array, warp: Warp, fill: float = 0.0) -> Array:
    """(H,W,C) floats on the device; within half a pixel of its edge the original goes on as it
    ends. One point a pixel: a warp that shrinks is not antialiased."""
    y, x, inside = find_pixels(warp._replace(matrix=jnp.asarray(warp.matrix)))

    def sampled(channel: Array) -> Array:
        return map_coordinates(channel, [y - 0.5, x - 0.5], order=1, mode="nearest")

    return jnp.where(inside[..., None], jax.vmap(sampled, -1, -1)(image), fill)


def resize_part(image: np.ndarray, warp: Warp) -> np.ndarray:
    """(H,W,C) on the host, uint8 or float, of a warp that neither turns nor mirrors: bilinear, with
    antialiasing where it shrinks. The part that is seen lies within the original."""
    height, width = warp.size
    top, left = move_points(warp, 0.0, 0.0)
    low, right = move_points(warp, float(height), float(width))
    tall, wide = warp.original
    box = (max(left, 0.0), max(top, 0.0), min(right, wide), min(low, tall))
    return resize(image, height, width, "bilinear", box)


def restore_nearest(array: np.ndarray, warp: Warp, fill: Any) -> np.ndarray:
    """What was predicted for the result (H,W,...) of a warp, on the original."""
    return sample_nearest(array, invert(warp), fill)
