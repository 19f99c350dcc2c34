"""Position embeddings of a Vision Transformer for another grid of patches.

A network that was trained on 14 x 14 patches has one learnt vector for each of them. For another
picture size the grid of vectors is resampled like a picture; class and register tokens have no
place in it and keep their vectors.
"""

from __future__ import annotations

import math

import jax
import numpy as np

CLASS_TOKENS = (0, 1, 2)
"""How many tokens before the grid have a position: none, a class token, a distillation token
(DeiT, arXiv:2012.12877) behind it."""


def refitted(positions: np.ndarray, count: int) -> tuple[np.ndarray, str]:
    """(1,N,D) for `count` tokens, and what was done; unchanged, and '', where it cannot be.

    Both are a square grid behind the same class tokens, or only the network's class token has a
    position: DeiT III, DINOv2 with registers and big_vision add theirs after the positions, which
    is a position of zero."""
    has = positions.shape[1]
    for before, prefix in (*zip(CLASS_TOKENS, CLASS_TOKENS, strict=True), (0, 1)):
        old, new = _side(has - before), _side(count - prefix)
        if not old or not new:
            continue
        change = "" if old == new else f"resampled from a grid of {old}x{old} to {new}x{new}"
        if before != prefix:
            none = np.zeros((1, 1, positions.shape[2]), positions.dtype)
            positions = np.concatenate([none, positions], axis=1)
            change = ", ".join(filter(None, ["zero for the class token", change]))
        return resample(positions, (new, new), prefix), change
    return positions, ""


def resample(positions: np.ndarray, grid: tuple[int, int], prefix: int) -> np.ndarray:
    """(1, prefix + n*n, D) to (1, prefix + h*w, D) for `grid` (h,w), row by row, in its dtype.

    Bicubic with a = -0.5, widened where the grid shrinks: `interpolate(mode="bicubic",
    antialias=True)` of PyTorch, which is what timm's `resample_abs_pos_embed` does. (DINO and
    transformers interpolate with a = -0.75 and without antialiasing.) Dosovitskiy et al. 2021,
    arXiv:2010.11929, section 3.2, were the first to do it. Raises ValueError where what stands
    behind the prefix is no square."""
    _, count, width = positions.shape
    side = _side(count - prefix)
    if not side:
        raise ValueError(f"{count} positions behind {prefix} leading tokens are no square grid.")
    if (side, side) == grid:
        return positions
    picture = positions[:, prefix:].reshape(1, side, side, width).astype(np.float32)
    found = np.asarray(jax.image.resize(picture, (1, *grid, width), "cubic", antialias=True))
    found = found.reshape(1, grid[0] * grid[1], width).astype(positions.dtype)
    return np.concatenate([positions[:, :prefix], found], axis=1)


def _side(count: int) -> int:
    """The side of a square grid of so many patches; 0 where they are none."""
    side = math.isqrt(max(count, 0))
    return side if side * side == count else 0
