"""Images on a canvas: how a raw one is cropped and resized before a network sees it.

Size, crop and interpolation are what an `InputSpec` says of the host's side; two networks for which
these are equal share the images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tlx.data.collate import Collate
from tlx.data.decode import fit
from tlx.data.given_pictures import refuse_range
from tlx.errors import DataError
from tlx.types import InputSpec, Interpolation


@final
@dataclass(frozen=True)
class ImageEncoder:
    """Images (H,W,3), uint8 or float 0 to 1, on a canvas of `size` (H,W); see
    `tlx.data.decode.fit`."""

    size: tuple[int, int]
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    def encode(self, value: Any, name: str) -> np.ndarray:
        """The image on the canvas, uint8 or float32. Raises DataError for what is none."""
        image = np.asarray(value)
        floats = np.issubdtype(image.dtype, np.floating)
        if image.ndim != 3 or image.shape[2] != 3 or not (floats or image.dtype == np.uint8):
            raise DataError(
                f"{name} has the shape {image.shape} and the type {image.dtype}; a data source "
                f"gives (H,W,3), uint8 or float 0 to 1."
            )
        if floats:
            refuse_range(image, name)
        placed = fit(image, self.size, self.crop, self.interpolation)
        return placed.astype(np.float32, copy=False) if floats else placed


def image_encoder(size: tuple[int, int], inputs: InputSpec) -> ImageEncoder:
    """Images on a canvas of `size` (H,W), cropped and resized as a network wants them."""
    return ImageEncoder(size, inputs.crop, inputs.interpolation)


def collate_images(size: tuple[int, int], inputs: InputSpec | None = None) -> Collate:
    """Batches of such images with their labels."""
    return Collate((("image", image_encoder(size, inputs or InputSpec())),))
