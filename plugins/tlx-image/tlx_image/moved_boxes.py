"""Boxes after a warp: around their corners, cut off at the edge, and how much of each is left."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlx.contracts.field import Warp
from tlx_image.warp import array_module, invert, move_points


def move_boxes(boxes: Any, warp: Warp) -> tuple[Any, Any]:
    """Boxes (N,4) of the original on the result, float32, and the share (N,) of the area of each
    that is still within it; what lay outside of the original counts for nothing."""
    xp = array_module(boxes, warp.matrix)
    around = _around(clip_boxes(xp.asarray(boxes), warp.original), invert(warp))
    moved = clip_boxes(around, warp.size)
    whole = _areas(around)
    share = xp.where(whole > 0, _areas(moved) / xp.where(whole > 0, whole, 1), 0)
    return moved.astype(np.float32), share


def restore_boxes(boxes: np.ndarray, warp: Warp) -> np.ndarray:
    """Boxes (N,4) of the result on the original."""
    return clip_boxes(_around(boxes, warp), warp.original).astype(np.float32)


def clip_boxes(boxes: Any, size: tuple[int, int]) -> Any:
    """Boxes (N,4) cut off at the edge of (H,W)."""
    xp = array_module(boxes)
    return xp.clip(boxes, 0, xp.asarray([*size, *size], boxes.dtype))


def _around(boxes: Any, warp: Warp) -> Any:
    """The smallest boxes (N,4) around the corners of boxes, each where `move_points` takes it."""
    y, x = move_points(warp, boxes[:, [0, 0, 2, 2]], boxes[:, [1, 3, 1, 3]])
    return array_module(y).stack([y.min(1), x.min(1), y.max(1), x.max(1)], 1)


def _areas(boxes: Any) -> Any:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
