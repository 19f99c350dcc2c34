"""Masks as files have them, and as colours."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from tlx.errors import DataError, TlxError
from tlx_image.given_images import read_pixels

FORMS = (
    "A mask is the name of a PNG file, its bytes, an open file or a PIL image with one number a "
    "pixel (grey, or indices of a palette), or an array (H,W) of whole numbers."
)


def read_numbers(raw: Any, name: str) -> np.ndarray:
    """(H,W) whole numbers of a mask in any form. Raises DataError, calling it `name`."""
    if hasattr(raw, "__array__") and not isinstance(raw, Image.Image):
        return _checked(np.asarray(raw), name)
    if isinstance(raw, Image.Image):
        return _numbers(raw, name)
    content = raw.read() if hasattr(raw, "read") else raw
    if not isinstance(content, str | os.PathLike | bytes | bytearray | memoryview):
        raise DataError(f"{name} is {type(raw).__name__}, and no mask. {FORMS}")
    if isinstance(content, str | os.PathLike):
        name = f"{name} ({os.fspath(content)!r})"
    else:
        content = io.BytesIO(content)
    try:
        with Image.open(content) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                read_pixels(opened, name)  # which says that it is too large
            return _numbers(opened, name)
    except TlxError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist.") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise DataError(f"{name} cannot be read as a mask ({error}). {FORMS}") from error


def _numbers(opened: Image.Image, name: str) -> np.ndarray:
    if len(opened.getbands()) != 1 or opened.mode == "F":
        raise DataError(
            f"{name} has the colours of {opened.mode}, and a mask has one whole number a pixel: "
            f"which of the classes it is. {FORMS}"
        )
    return _checked(np.asarray(opened), name)


def _checked(numbers: np.ndarray, name: str) -> np.ndarray:
    if numbers.ndim == 3 and numbers.shape[2] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "iub" or 0 in numbers.shape:
        raise DataError(f"{name} is an array {numbers.shape} of {numbers.dtype}. {FORMS}")
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def color_classes(mask: np.ndarray, count: int) -> np.ndarray:
    """(H,W,3) uint8: the colours that PASCAL VOC gives to classes (bits of a number spread over
    the channels, Everingham et al. 2010), and white for what is none."""
    numbers = np.arange(count)
    colors = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel)) & 1).astype(np.uint8) << (
                7 - bit
            )
    known = (mask >= 0) & (mask < count)
    return np.where(known[..., None], colors[np.where(known, mask, 0)], np.uint8(255))
