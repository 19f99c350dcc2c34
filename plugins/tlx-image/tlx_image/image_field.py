"""Images as a kind of field: read from whatever form they come in, told apart, shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Print, Warp
from tlx.errors import DataError
from tlx_image.pixels import as_bytes


@final
@dataclass(frozen=True)
class Image:
    """Images (H,W,3), uint8 or float 0..1 RGB; `shape` (H,W,3) where all share one."""

    shape: tuple[int, int, int] | None = None
    kind: ClassVar[str] = "image"

    def read(self, raw: Any, name: str) -> np.ndarray:
        """The pixels of a file's name, bytes, an open file, a PIL image or an array."""
        from tlx_image.given_images import read_pixels

        return raw if isinstance(raw, np.ndarray) else read_pixels(raw, name)

    def encode(self, value: Any, name: str) -> np.ndarray:
        """As a target: its pixels as floats from 0 to 1."""
        floats = np.issubdtype(value.dtype, np.floating)
        return np.asarray(value, np.float32) / (1 if floats else 255)

    def place(self, value: Any, warp: Warp, name: str) -> np.ndarray:
        """As a target, resized as the image is that a network is given, bilinear."""
        from tlx_image.resample import resize_part

        if np.shape(value)[:2] != tuple(warp.original):
            raise DataError(
                f"{name} has the shape {np.shape(value)}, and the image that it belongs to is "
                f"{warp.original[0]} x {warp.original[1]} (height x width)."
            )
        return self.encode(resize_part(np.asarray(value), warp), name)

    def warp(self, arrays: Any, warp: Warp) -> Any:
        """As a target, bilinear; what enters is black."""
        from tlx_image.resample import sample_bilinear

        return sample_bilinear(arrays, warp)

    def each(self, given: Any) -> Iterator[tuple[str, np.ndarray]]:
        """One image or several, in whatever form a caller has them."""
        from tlx_image.given_images import each_picture, read_pixels

        for name, image in each_picture(given):
            yield name, read_pixels(image, name)

    def show(self, value: Any) -> np.ndarray:
        """Its pixels."""
        return as_bytes(value)

    def fingerprint(self, value: Any) -> Print:
        """A digest of its pixels, and a hash that smaller changes leave nearly the same."""
        from tlx_image.image_hash import fingerprint

        return fingerprint(np.asarray(value))

    def nearly_same(self, first: Sequence[Print], second: Sequence[Print]) -> list[tuple[int, int]]:
        """Images of another size, another compression, a touch of brightness."""
        from tlx_image.image_hash import nearly_same

        return nearly_same(first, second)

    @property
    def endings(self) -> frozenset[str]:
        """How the names of files end that hold images."""
        from tlx_image.image_formats import endings

        return endings()

    def unread_hint(self, files: Sequence[Path]) -> str:
        """What would help to read files that cannot be read; empty where nothing is known."""
        from tlx_image.image_formats import unread_hint

        return unread_hint(files)

    def draw_sheet(self, rows: Mapping[str, Sequence[Any]], file: str) -> None:
        """Write a picture of images in rows, each with its name."""
        from tlx_image.class_sheet import draw_sheet

        draw_sheet(rows).save(file)

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[np.ndarray]:
        """So many random images."""
        side = self.shape or (12, 10, 3)
        return [rng.integers(0, 256, side, dtype=np.uint8) for _ in range(count)]
