"""Pictures in whatever form a caller has them: names, bytes, open files, PIL images, arrays.

What the numbers of an array mean is said by its type and by nothing else: uint8 is 0 to 255, a
float is 0 to 1. Numbers that cannot be meant so are refused with what to do about them, since a
network answers a picture that is 255 times too bright with as much confidence as any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from tlx.errors import DataError
from tlx_image import decode

Given: TypeAlias = "decode.Picture | BinaryIO | np.ndarray"
Pictures: TypeAlias = "Given | Iterable[Given]"

SLACK = 1e-3
"""By how much a float may leave 0 to 1, as resampling and arithmetic make it; it is clipped."""


def each_picture(pictures: Pictures) -> Iterator[tuple[str, Any]]:
    """Every picture with what an error calls it. An array (N,H,W,3) is N pictures, and whatever
    can be iterated is as many as it holds. Raises DataError for what is no picture at all."""
    if _is_one(pictures):
        yield "The picture", pictures
        return
    if _is_array(pictures):
        several = _as_array(pictures, "The picture")
        if several.ndim == 1 and several.dtype.kind in "OU":  # a column of names
            several = several.tolist()
        elif several.ndim != 4:
            yield "The picture", several
            return
    elif isinstance(pictures, Iterable) and not isinstance(pictures, Mapping):
        several = pictures
    else:
        kind = _kind(pictures)
        raise DataError(f"{kind[0].upper()}{kind[1:]} is no picture. {_FORMS}")
    for number, picture in enumerate(several):
        yield f"The picture [{number}]", picture


def read_pixels(picture: Given, name: str = "The picture") -> np.ndarray:
    """The picture as (H,W,3) RGB, uint8 or float32 from 0 to 1.

    Raises DataError for what cannot be read as a picture and for an array whose shape, type or
    numbers are not those of one; `name` is what it is called where it has no name of its own."""
    if _is_array(picture):
        return _checked(_as_array(picture, name), name)
    if isinstance(picture, bytearray | memoryview):
        picture = bytes(picture)
    if hasattr(picture, "read") and not isinstance(picture, Image.Image):
        picture, name = _content(picture, name)
    if isinstance(picture, bytes):
        if not picture:
            raise DataError(f"{name} is empty: there is no byte of it.")
        return decode.read(picture, name)
    if isinstance(picture, Image.Image):
        return decode.read(picture, name)
    if not isinstance(picture, str | os.PathLike):
        inside = " inside of a list" if isinstance(picture, list | tuple) else ""
        raise DataError(f"{name} is {_kind(picture)}{inside}, and no picture. {_FORMS}")
    if Path(picture).is_dir():
        raise DataError(
            f"{os.fspath(picture)!r} is a folder, and no picture. Give the files in it: "
            f"sorted(Path({os.fspath(picture)!r}).glob('*.jpg'))."
        )
    return decode.read(picture)


def refuse_range(image: np.ndarray, name: str) -> None:
    """Raise DataError where floats are not numbers from 0 to 1."""
    if not image.size:
        return
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise DataError(f"{name} holds numbers that are not finite (NaN or infinity).")
    if low >= -SLACK and high <= 1 + SLACK:
        return
    advice = "Give it as it was before it was normalised: the model does that itself."
    if low >= -SLACK and high <= 255.5:
        advice = "If 255 is white, divide it by 255 or give it as uint8: image.astype(np.uint8)."
    elif low >= -SLACK:
        advice = "Divide it by the number that is white, such as 65535 where it had 16 bits."
    raise DataError(
        f"{name} is an array of floats from {low:.4g} to {high:.4g}, and floats are read as 0 "
        f"(black) to 1 (white). {advice}"
    )


_FORMS = (
    "A picture is the name of a file, its bytes, an open file, a PIL image or an array (H,W,3), "
    "and several are a list of these or an array (N,H,W,3)."
)
_TYPES = {
    "b": "It is a mask; image.astype(np.uint8) * 255 is a picture of it.",
    "u": "If it has 16 bits, image / 65535 is a float; if all is from 0 to 255, use "
    "image.astype(np.uint8).",
    "i": "If all is from 0 to 255, use image.astype(np.uint8).",
    "O": "Give pictures of several sizes as a list.",
}
"""What to do about an array, by the kind of its type."""


def _is_one(given: Any) -> bool:
    """Whether it is one picture that is no array."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(given, kinds) or hasattr(given, "read")


def _is_array(given: Any) -> bool:
    return hasattr(given, "__array__") and not _is_one(given)


def _as_array(given: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except Exception as error:  # a tensor on a device, or one that is differentiated
        raise DataError(f"{name} is {_kind(given)} that is no array here: {error}") from error


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """The array as it goes on, (H,W,3) uint8 or float32."""
    floats = np.issubdtype(image.dtype, np.floating) or image.dtype.name == "bfloat16"
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"{name} is an array {image.shape} {image.dtype}, and one of a picture is (H,W,3) in "
            f"RGB, of several (N,H,W,3). {_shape_advice(image)}"
        )
    if not floats and image.dtype != np.uint8:
        advice = _TYPES.get(image.dtype.kind, "")
        raise DataError(
            f"{name} is an array of {image.dtype}, and one of a picture is uint8 from 0 to 255 or "
            f"float from 0 to 1. {advice}".rstrip()
        )
    if 0 in image.shape:
        raise DataError(f"{name} is an array {image.shape}, in which there is no pixel.")
    if not floats:
        return image
    refuse_range(image, name)
    return np.clip(image.astype(np.float32), 0, 1)


def _shape_advice(image: np.ndarray) -> str:
    shape = image.shape
    if image.dtype.kind == "O":
        return _TYPES["O"]
    if len(shape) in (3, 4) and shape[-3] in (1, 3, 4):
        return "Its channels come first: np.moveaxis(image, -3, -1) puts them last."
    if len(shape) == 2 or shape[-1:] == (1,):
        return "A grey one is np.repeat(image.reshape(height, width, 1), 3, axis=2)."
    if len(shape) == 3 and shape[-1] == 4:
        return "Its fourth channel says what is transparent: image[..., :3] leaves it out."
    if len(shape) == 3:
        return "Grey pictures are np.repeat(images[..., None], 3, axis=3)."
    return "Inside of a list each array is one picture." if len(shape) == 4 else ""


def _content(file: Any, name: str) -> tuple[bytes, str]:
    """What is left to read of an open file, and what the file is called."""
    called = getattr(file, "name", None) or getattr(file, "filename", None)
    name = f"The picture {called!r}" if isinstance(called, str) else name
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise DataError(f"{name} is an open file that cannot be read: {error}.") from error
    if isinstance(content, str):
        raise DataError(f"{name} is a file that is open as text; open it with mode 'rb'.")
    if not content:
        raise DataError(
            f"{name} is an open file with nothing left to read: it is empty, or was read before; "
            f"file.seek(0) goes back to its beginning."
        )
    return bytes(content), name


def _kind(given: Any) -> str:
    return "None" if given is None else f"something of type {type(given).__name__}"
