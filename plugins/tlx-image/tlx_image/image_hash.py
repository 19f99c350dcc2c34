"""Which pictures of two sets are the same, and which are nearly so.

Pictures are the same if their pixels are, whatever file they came in. They are nearly the same if
the signs of their horizontal differences on a grid of 8 x 9 agree in all but a few of 64 places
(the difference hash of Krawetz, 2013) and their thumbnails differ by a few grey levels: another
size, another compression, a touch of brightness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlx.contracts.field import Print

BITS = 6
"""Of 64, how many may differ."""
LEVELS = 4.0
"""Of 255, how far the thumbnails may be apart on average."""
FLAT = 1
"""An image whose channels vary no more, of 255, shows nothing."""
SIDE = 16
"""Pixels of a thumbnail's side."""
BLOCK = 2048
"""Pictures of the first set that are compared at a time."""


class ImageHash(NamedTuple):
    """What is kept of an image: the hash of 64 bits, a thumbnail (16,16,3)."""

    bits: int
    thumbnail: np.ndarray


def fingerprint(picture: np.ndarray) -> Print:
    """Of a picture (H,W,C), uint8 or float 0..1."""
    digest = hashlib.sha256(repr((picture.shape, picture.dtype.str)).encode())
    digest.update(np.ascontiguousarray(picture).tobytes())
    spread = float(np.ptp(picture, axis=(0, 1)).max())
    flat = spread <= (FLAT if picture.dtype == np.uint8 else FLAT / 255)
    if np.issubdtype(picture.dtype, np.floating):
        picture = (255 * np.clip(np.nan_to_num(picture), 0, 1)).astype(np.uint8)
    if picture.shape[-1] != 3:
        picture = np.repeat(picture.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    image = Image.fromarray(picture)
    grid = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    signs = np.packbits(grid[:, 1:] > grid[:, :-1])
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    near = ImageHash(int.from_bytes(signs.tobytes(), "big"), small)
    return Print(digest.digest(), near, flat)


def nearly_same(first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
    """Positions in both of images that are nearly the same; of the second at most one each."""
    if not first or not second:
        return []
    near: list[tuple[int, int]] = []
    ours = np.array([one.near.bits for one in first], np.uint64)
    small = np.stack([one.near.thumbnail for one in first])
    for place, one in enumerate(second):
        for begin in range(0, len(ours), BLOCK):
            apart = np.bitwise_count(ours[begin : begin + BLOCK] ^ np.uint64(one.near.bits))
            close = begin + np.flatnonzero(apart <= BITS)
            if not close.size:
                continue
            levels = np.abs(small[close] - one.near.thumbnail.astype(np.float32)).mean((1, 2, 3))
            if levels.min() <= LEVELS:
                near.append((int(close[levels.argmin()]), place))
                break
    return near
