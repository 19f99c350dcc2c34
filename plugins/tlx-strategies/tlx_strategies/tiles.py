"""The tiles of a jigsaw puzzle, cut so that their edges and their light do not give it away.

Each tile is cut at a random place of a cell that is larger than itself, so that edges do not meet,
and is brought to the same mean and contrast in every channel (Noroozi & Favaro 2016,
arXiv:1603.09246, on preventing shortcuts).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def shape(size: tuple[int, int], grid: int, gap: float) -> tuple[int, int]:
    """(height, width) of a tile in a grid x grid puzzle of pictures of `size` (H,W); `gap` is the
    share of a cell that is left out, at least a pixel unless it is 0."""
    cells = (size[0] // grid, size[1] // grid)
    tall, wide = (cell - (max(round(cell * gap), 1) if gap else 0) for cell in cells)
    return tall, wide


def cut(keys: Array, image: Array, grid: int, gap: float) -> Array:
    """(B,H,W,C) -> (B,grid*grid,h,w,C) row by row, each tile at a random place of its cell; one
    key per picture."""
    size = (image.shape[1], image.shape[2])
    cell, tile = np.asarray(size) // grid, np.asarray(shape(size, grid, gap))
    corners = np.stack(np.divmod(np.arange(grid * grid), grid), 1) * cell

    def one(key: Array, picture: Array) -> Array:
        moved = corners + jax.random.randint(key, corners.shape, 0, cell - tile + 1)
        sides = (*tile.tolist(), picture.shape[-1])
        return jax.vmap(lambda at: jax.lax.dynamic_slice(picture, (at[0], at[1], 0), sides))(moved)

    return jax.vmap(one)(keys, image)


def evened(tiles: Array) -> Array:
    """(B,n,h,w,C) with mean 1/2 and deviation 1/4 in every channel of every tile, which is about
    what photographs have; flat ones become grey."""
    mean = tiles.mean((2, 3), keepdims=True)
    contrast = jax.lax.rsqrt(tiles.var((2, 3), keepdims=True) + 1e-4)
    return 0.5 + 0.25 * (tiles - mean) * contrast


def laid(tiles: Array) -> Array:
    """(B,grid*grid,h,w,C) side by side with a black line around each, for people to look at."""
    b, n, h, w, c = tiles.shape
    grid = round(n**0.5)
    framed = jnp.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    rows = framed.reshape(b, grid, grid, h + 2, w + 2, c).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(b, grid * (h + 2), grid * (w + 2), c)
