"""A class for every pixel of an image, which moves with it.

Classes are never mixed: a resampled mask has the nearest pixel's class, and where there was none it
has the number that is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Warp
from tlx.errors import ConfigError, DataError, listed
from tlx_image.resample import restore_nearest, sample_nearest

SHOWN = 5
"""Numbers that are no class, in a sentence about them."""


@final
@dataclass(frozen=True)
class Mask:
    """Masks (H,W) of whole numbers: which of `classes` a pixel is, or `ignore` where nobody says,
    or where the image ends."""

    classes: tuple[str, ...]
    ignore: int = 255
    kind: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        if 0 <= self.ignore < len(self.classes):
            raise ConfigError(
                f"mask: ignore = {self.ignore} is the number of the class "
                f"{self.classes[self.ignore]!r}. Take one that no class has, such as 255."
            )

    def read(self, raw: Any, name: str) -> np.ndarray:
        """(H,W) of a file's name, bytes, an open file, a PIL image (of one with a palette its
        indices) or an array (H,W) or (H,W,1). Raises DataError for what is no mask."""
        from tlx_image.mask_pixels import read_numbers

        return read_numbers(raw, name)

    def encode(self, value: Any, name: str) -> np.ndarray:
        """(H,W) int32. Raises DataError for a number that is neither a class nor ignored."""
        numbers = np.asarray(value)
        wrong = (numbers != self.ignore) & ((numbers < 0) | (numbers >= len(self.classes)))
        if wrong.any():
            found = np.unique(numbers[wrong])
            more = ", ..." if len(found) > SHOWN else ""
            raise DataError(
                f"{name} holds {listed(map(str, found[:SHOWN].tolist()))}{more}, and the classes "
                f"are 0 to {len(self.classes) - 1}, what is ignored {self.ignore}. Map its "
                f"numbers to these in the data source, or name more classes."
            )
        return numbers.astype(np.int32)

    def place(self, value: Any, warp: Warp, name: str) -> np.ndarray:
        """(H,W) int32 after a warp. Raises DataError for a mask of another size than its image."""
        if np.shape(value) != tuple(warp.original):
            raise DataError(
                f"{name} has the shape {np.shape(value)}, and its image is "
                f"{warp.original[0]} x {warp.original[1]} (height x width)."
            )
        return sample_nearest(self.encode(value, name), warp, self.ignore)

    def warp(self, arrays: Any, warp: Warp) -> Any:
        """(H,W) after a warp; what enters is ignored."""
        return sample_nearest(arrays, warp, self.ignore)

    def restore(self, array: np.ndarray, warp: Warp) -> np.ndarray:
        """A predicted mask, of any resolution, in the pixels of the original; what was cropped off
        is ignored."""
        from tlx_image.warp import compose, scale_plane

        size = array.shape[:2]
        coarser = compose(warp, scale_plane(warp.size, size))
        return restore_nearest(array, coarser, self.ignore)

    def show(self, value: Any) -> np.ndarray:
        """A colour for each class (H,W,3); what is ignored is white."""
        from tlx_image.mask_pixels import color_classes

        return color_classes(np.asarray(value), len(self.classes))

    def strata(self, value: Any) -> Sequence[int]:
        """The classes that are there."""
        found = np.unique(np.asarray(value))
        return [int(one) for one in found if one != self.ignore]

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[np.ndarray]:
        """So many random masks."""
        return [rng.integers(0, len(self.classes), (12, 10)) for _ in range(count)]
