"""Changes of the plane as matrices: mirrored, moved, scaled, one after another, and back.

Coordinates are continuous: pixel i covers [i, i+1], and its centre is i + 1/2. A matrix takes a
point (y, x, 1) of the result to the point of the original that is shown there. The same functions
serve the host, with numpy, and the device, with jax.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx.contracts.field import Warp

Size = tuple[int, int]


def array_module(*arrays: Any) -> Any:
    """numpy where all lie on the host, jax's where one lies on the device or is traced."""
    return np if all(isinstance(one, np.ndarray | np.generic) for one in arrays) else jnp


def identity(size: Size) -> Warp:
    """The plane (H,W) as it is."""
    return Warp(np.eye(2, 3), size, size)


def flip_plane(size: Size) -> Warp:
    """Left and right of (H,W) exchanged."""
    return Warp(np.array([[1.0, 0, 0], [0, -1, size[1]]]), size, size)


def shift_plane(size: Size, down: Any, right: Any) -> Warp:
    """(H,W) moved by pixels, whole ones or not; numbers of either kind of array."""
    return crop_plane(size, (-down, -right), size)


def crop_plane(original: Size, start: tuple[Any, Any], size: Size) -> Warp:
    """The part of (H,W) of a `size` that starts at (y, x), which may lie partly outside."""
    if all(isinstance(one, int | float | np.number) for one in start):
        return Warp(np.array([[1.0, 0, start[0]], [0, 1, start[1]]]), size, original)
    return Warp(jnp.eye(2, 3).at[:, 2].set(jnp.stack(start)), size, original)


def scale_plane(original: Size, size: Size) -> Warp:
    """(H,W) resized to a `size`, edges upon edges."""
    tall, wide = (before / after for before, after in zip(original, size, strict=True))
    return Warp(np.array([[tall, 0, 0], [0, wide, 0]]), size, original)


def compose(first: Warp, then: Warp) -> Warp:
    """One change that does what two do in turn."""
    a, b = first.matrix, then.matrix
    # Written out: a matrix product may be rounded to fewer digits on an accelerator.
    product = a[:, :1] * b[:1] + a[:, 1:2] * b[1:2]
    xp = array_module(product)
    offset = xp.stack([xp.zeros(2), xp.zeros(2), a[:, 2]], 1)
    return Warp(product + offset, then.size, first.original)


def invert(warp: Warp) -> Warp:
    """The change back; that of a flip or of a shift by whole pixels is exact."""
    (a, b, y), (c, d, x) = warp.matrix
    xp = array_module(warp.matrix)
    det = a * d - b * c
    rows = [[d, -b, b * x - d * y], [-c, a, c * y - a * x]]
    matrix = xp.stack([xp.stack([entry / det for entry in row]) for row in rows])
    return Warp(matrix, warp.original, warp.size)


def move_points(warp: Warp, y: Any, x: Any) -> tuple[Any, Any]:
    """Where points of the result lie in the original."""
    # Written out, and x first in both: see `compose`.
    m = warp.matrix
    return m[0, 1] * x + m[0, 0] * y + m[0, 2], m[1, 1] * x + m[1, 0] * y + m[1, 2]


def find_pixels(warp: Warp) -> tuple[Any, Any, Any]:
    """Of every pixel of the result (H,W) the point (y, x) of the original at its centre, and
    whether that lies within the original."""
    height, width = warp.size
    xp = array_module(warp.matrix)
    # Numbers of the matrix's own precision: float32 on the device.
    rows = xp.arange(height, dtype=warp.matrix.dtype)[:, None] + 0.5
    columns = xp.arange(width, dtype=warp.matrix.dtype)[None, :] + 0.5
    y, x = move_points(warp, rows, columns)
    y, x = xp.broadcast_to(y, warp.size), xp.broadcast_to(x, warp.size)
    tall, wide = warp.original
    return y, x, (y >= 0) & (y < tall) & (x >= 0) & (x < wide)
