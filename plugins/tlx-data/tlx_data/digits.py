"""scikit-learn's handwritten digits: 1797 pictures of 8x8 pixels, ten classes.

They come with scikit-learn itself, so they are there without a download (Alpaydin and Kaynak
1998, the test part of "Optical recognition of handwritten digits").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import final

import numpy as np

from tlx.types import DataInfo
from tlx_data.arrays import Arrays, fingerprint
from tlx_data.image_info import image_info


@final
@dataclass(frozen=True)
class Digits:
    """One split, 'train', of 1797 pictures (8,8,3); classes "0" to "9"."""

    @cached_property
    def info(self) -> DataInfo:
        """Shape, classes, sizes and fingerprint."""
        classes = tuple("0123456789")
        return image_info(
            name="digits",
            shape=(8, 8, 3),
            classes=classes,
            splits={"train": len(_read())},
            fingerprint=fingerprint({"train": _read()}, classes),
        )

    def split(self, name: str) -> Arrays:
        """The split 'train'."""
        return {"train": _read()}[name]


@lru_cache(maxsize=1)
def _read() -> Arrays:
    from sklearn.datasets import load_digits  # slow to import

    ink, target = load_digits(return_X_y=True)
    # Ink is counted from 0 to 16.
    images = np.round(np.asarray(ink) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    images.flags.writeable = False  # every run of a process reads the same
    return Arrays(images, np.asarray(target, np.int32))
