"""What of a picture a network may see: some cells of a grid, and nothing of the others.

A map keeps its shape and is 0 wherever it is hidden. A convolution spreads what is visible over
the border of a hidden cell, so every norm, which is where ResNets end a convolution, hides it again
and counts visible positions alone: the sparse convolutions of Tian et al. 2023 (SparK,
arXiv:2301.03580, section 3.1) on dense maps. A row of tokens becomes shorter instead (He et al.
2022, MAE, arXiv:2111.06377, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array

from tlx.errors import DataError


@final
@dataclass(frozen=True)
class Visible:
    """`cells` (B,rows,columns), True for `count` cells of every picture."""

    cells: Array
    count: int


def fitting(visible: Visible, x: Array, cell: int) -> Visible:
    """`visible`, if it is a grid of `cell` x `cell` pixels over the pictures `x` (B,H,W,C).

    Raises DataError for pictures that the cell does not divide, and for another grid."""
    tall, wide = x.shape[1:3]
    if tall % cell or wide % cell:
        raise DataError(
            f"The pictures reach the network at {tall} x {wide}, and it can be masked in cells of "
            f"{cell} x {cell} pixels, which do not divide them. Resize the pictures to a multiple "
            f"of {cell}."
        )
    grid = (x.shape[0], tall // cell, wide // cell)
    if visible.cells.shape != grid:
        raise DataError(
            f"A mask of shape {visible.cells.shape} does not fit pictures of shape {x.shape}: with "
            f"cells of {cell} x {cell} pixels it must be {grid}."
        )
    return visible


def positions(visible: Visible, x: Array) -> Array:
    """(B,h,w,1), True where the map `x` (B,h,w,C) is visible: cells repeated to its size."""
    rows, columns = visible.cells.shape[1:]
    tall, wide = x.shape[1] // rows, x.shape[2] // columns
    return jnp.repeat(jnp.repeat(visible.cells, tall, 1), wide, 2)[..., None]


def hidden_as_zero(x: Array, visible: Visible | None) -> Array:
    """The map (B,h,w,C) with 0 at hidden positions, even where it was not a number there."""
    return x if visible is None else jnp.where(positions(visible, x), x, 0)


def visible_share(visible: Visible | None) -> float:
    """The share of all positions that is visible."""
    if visible is None:
        return 1.0
    rows, columns = visible.cells.shape[1:]
    return visible.count / (rows * columns)


def visible_mean(x: Array, visible: Visible | None) -> Array:
    """(B,C), the mean of a map over its visible positions; it is 0 at the others."""
    mean = x.mean((1, 2))
    return mean if visible is None else mean / visible_share(visible)


def visible_tokens(x: Array, visible: Visible | None) -> Array:
    """(B,count,D), the tokens of visible cells out of (B,rows*columns,D), in their order."""
    if visible is None:
        return x
    hidden = ~visible.cells.reshape(len(x), -1)
    order = jnp.argsort(hidden, axis=1, stable=True)[:, : visible.count]
    return jnp.take_along_axis(x, order[..., None], axis=1)
