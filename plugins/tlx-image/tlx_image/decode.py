"""From a picture as somebody stored it to the pixels a network is given.

Training, evaluation and prediction all pass through `read` and `fit`, so that they see the same
thing: upright, three channels of RGB, no transparency, 8 bits scaled from whatever there was.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps

from tlx.errors import DataError
from tlx.types import Interpolation
from tlx_image.image_formats import learn_heic, unread_hint

MOST_FROM_ONE = {
    "PNG": 1032, "GIF": 2560, "BMP": 128, "PPM": 1, "JPEG": 1536,
    "raw": 1, "packbits": 64, "tiff_lzw": 2560, "tiff_adobe_deflate": 1032, "tiff_deflate": 1032,
}  # fmt: skip
"""Bytes of pixels that one stored byte can become at the most, by format, and for TIFF by what it
is compressed with: DEFLATE's 1032; LZW's 3838 in 12 bits; two bytes for a run of 255; a bit for a
block of 8x8 in three channels. WebP has no such bound, and is bounded by its sides."""
BITS = {
    "1": 1,
    "P": 1,
    "L": 1,
    "LA": 16,
    "I;16": 16,
    "RGB": 24,
    "YCbCr": 24,
    "RGBA": 32,
    "CMYK": 32,
}
"""Of a pixel at the least, by mode; palettes and greys may be packed."""

Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image"


def read(picture: Picture, name: str | None = None) -> np.ndarray:
    """The picture as (H,W,3) uint8 RGB.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, grey
    is repeated. Raises DataError, naming the file (or `name`), for what is no picture, is cut
    short or has more than `PIL.Image.MAX_IMAGE_PIXELS` pixels."""
    if name is None:
        named = isinstance(picture, (str, os.PathLike))
        name = f"The picture {os.fspath(picture)!r}" if named else "The picture"
    learn_heic()
    try:
        if isinstance(picture, Image.Image):  # of which a file may not have been read yet
            return _pixels(picture, name)
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            _refuse_bomb(opened, _size(picture), name)
            return _pixels(opened, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} is too large to be read: {error}") from error
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist.") from error
    except Exception as error:  # A damaged file makes Pillow raise almost anything.
        hint = unread_hint([Path(picture)]) if isinstance(picture, (str, os.PathLike)) else ""
        raise DataError(
            f"{name} cannot be read as a picture ({error}).{hint or ' Replace or remove it.'}"
        ) from error


def fit(
    image: np.ndarray,
    size: tuple[int, int],
    crop: float = 1.0,
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """The picture (H,W,C), uint8 or float, on a canvas of `size` (H,W).

    Untouched where it has that size already. Otherwise it is resized, with antialiasing and
    without changing its proportions, until it just covers `round(size / crop)`; the centre is
    kept."""
    tall, wide, top, left = placement(image.shape[:2], size, crop)
    if image.shape[:2] == tuple(size):
        return image
    return resize(image, tall, wide, interpolation)[top : top + size[0], left : left + size[1]]


def placement(
    shape: tuple[int, ...], size: tuple[int, int], crop: float = 1.0
) -> tuple[int, int, int, int]:
    """What `fit` does to an image (H,W): the size (H,W) that it is resized to, and from which row
    and column on `size` is cut out of that."""
    height, width = size
    if tuple(shape) == tuple(size):
        return height, width, 0, 0
    over = (round(height / crop), round(width / crop))
    # Whole numbers, as torchvision and transformers have them: the longer side loses its fraction.
    if over[0] * shape[1] >= over[1] * shape[0]:
        tall, wide = over[0], max(shape[1] * over[0] // shape[0], over[1])
    else:
        tall, wide = max(shape[0] * over[1] // shape[1], over[0]), over[1]
    return tall, wide, (tall - height) // 2, (wide - width) // 2


def resize(
    image: np.ndarray,
    tall: int,
    wide: int,
    way: Interpolation,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """(H,W,C), uint8 or float, resized with antialiasing; of a part of it alone where its `box`
    (left, top, right, bottom) is given."""
    resampling, size = Image.Resampling[way.upper()], (wide, tall)
    if image.dtype == np.uint8 and image.shape[2] == 3:
        small = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(small.resize(size, resampling, box))
    # Pillow resizes other numbers one channel at a time, in 32-bit floats.
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
                size, resampling, box
            )
        )
        for c in range(image.shape[2])
    ]
    resized = np.stack(planes, -1)
    if image.dtype == np.uint8:
        return np.clip(np.round(resized), 0, 255).astype(np.uint8)
    return resized.astype(image.dtype)


def _size(picture: str | os.PathLike[str] | bytes) -> int:
    return len(picture) if isinstance(picture, bytes) else os.stat(picture).st_size


def _refuse_bomb(opened: Image.Image, size: int, name: str) -> None:
    """Refuse a file that claims more pixels than its bytes can become, before memory is taken."""
    kind = opened.info.get("compression") if opened.format == "TIFF" else opened.format
    bits = max(BITS.get(opened.mode, 8), 8 * (kind in ("GIF", "JPEG")))  # which pack none
    claimed = opened.width * opened.height * bits / 8
    if claimed > size * MOST_FROM_ONE.get(str(kind), float("inf")):
        raise DataError(
            f"{name} claims to have {opened.width}x{opened.height} pixels, which its {size} bytes "
            f"cannot hold: it is cut short, or made to fill the memory. Replace or remove it."
        )


def _pixels(opened: Image.Image, name: str) -> np.ndarray:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and opened.width * opened.height > limit:
        # Pillow only warns up to twice the limit; a warning filter would not be safe in threads.
        raise DataError(
            f"{name} has {opened.width}x{opened.height} pixels, more than the {limit} that are "
            f"read. If it is meant to be that large, make a smaller copy of it."
        )
    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):
        return np.repeat(_eight_bits(np.asarray(upright), name)[..., None], 3, axis=2)
    if upright.mode == "F":
        raise DataError(f"{name} holds floats without a known range; save it as PNG or JPEG.")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    return np.asarray(upright.convert("RGB"))


def _eight_bits(grey: np.ndarray, name: str) -> np.ndarray:
    wide = grey.astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise DataError(f"{name} has more than 16 bits a pixel; save it with 8 or 16.")
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)
