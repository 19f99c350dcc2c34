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

BITS = 6
"""Of 64, how many may differ."""
LEVELS = 4.0
"""Of 255, how far the thumbnails may be apart on average."""
SIDE = 16
"""Pixels of a thumbnail's side."""
BLOCK = 2048
"""Pictures of the first set that are compared at a time."""


class Print(NamedTuple):
    """What is kept of a picture: its digest, the hash of 64 bits, a thumbnail (16,16,3)."""

    digest: bytes
    bits: int
    thumbnail: np.ndarray


def print_of(picture: np.ndarray) -> Print:
    """Of a picture (H,W,C), uint8 or float 0..1."""
    digest = hashlib.sha256(repr((picture.shape, picture.dtype.str)).encode())
    digest.update(np.ascontiguousarray(picture).tobytes())
    if np.issubdtype(picture.dtype, np.floating):
        picture = (255 * np.clip(np.nan_to_num(picture), 0, 1)).astype(np.uint8)
    if picture.shape[-1] != 3:
        picture = np.repeat(picture.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    image = Image.fromarray(picture)
    grid = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    signs = np.packbits(grid[:, 1:] > grid[:, :-1])
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Print(digest.digest(), int.from_bytes(signs.tobytes(), "big"), small)


def pairs(
    first: Sequence[Print], second: Sequence[Print]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(the same, nearly the same): positions in both, for each of the second at most one."""
    same, near = [], []
    known = {one.digest: place for place, one in enumerate(first)}
    rest = []
    for place, one in enumerate(second):
        if one.digest in known:
            same.append((known[one.digest], place))
        else:
            rest.append(place)
    if not first or not rest:
        return same, near
    ours = np.array([one.bits for one in first], np.uint64)
    small = np.stack([one.thumbnail for one in first])
    for place in rest:
        one = second[place]
        for begin in range(0, len(ours), BLOCK):
            apart = np.bitwise_count(ours[begin : begin + BLOCK] ^ np.uint64(one.bits))
            close = begin + np.flatnonzero(apart <= BITS)
            if not close.size:
                continue
            levels = np.abs(small[close] - one.thumbnail.astype(np.float32)).mean((1, 2, 3))
            if levels.min() <= LEVELS:
                near.append((int(close[levels.argmin()]), place))
                break
    return same, near
