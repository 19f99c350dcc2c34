"""Small pictures inside of a page, as data addresses.

Tiny pictures are enlarged by whole factors without smoothing, so that a pixel stays a pixel;
large ones are reduced, so that a report stays small.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 112
"""Length in pixels that the longer side of a picture is brought towards."""


def embedded(image: Any) -> str:
    """A `data:image/...` address of an (H,W,3), (H,W,1) or (H,W) uint8 picture: PNG, or JPEG
    where it was reduced."""
    from PIL import Image as images

    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    picture = images.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))
    longer, kind = max(picture.size), "PNG"
    if longer <= 2 * SIDE:
        factor = max(SIDE // longer, 1)
        picture = picture.resize(
            (picture.width * factor, picture.height * factor), images.Resampling.NEAREST
        )
    else:
        picture.thumbnail((2 * SIDE, 2 * SIDE))  # twice: sharp on a dense screen
        kind = "JPEG"  # a photograph: a tenth of a PNG
    return _address(picture, kind)


def heatmap(shares: np.ndarray) -> str:
    """A `data:image/png` address of a matrix of values 0..1, one pixel a cell, as blue of that
    opacity."""
    from PIL import Image as images

    rgba = np.empty((*shares.shape, 4), np.uint8)
    rgba[..., :3] = (0x3B, 0x82, 0xC4)
    rgba[..., 3] = np.round(255 * np.clip(shares, 0, 1))
    return _address(images.fromarray(rgba), "PNG")


def _address(picture: Image, kind: str) -> str:
    file = io.BytesIO()
    picture.save(file, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
