"""Boxes around what an image shows, each with its class; they move with the image.

A box is y0, x0, y1, x1 in pixels from the upper left corner, edges and not centres: the box of one
pixel (y, x) is y, x, y + 1, x + 1. An example has as many boxes as it has, in arrays of `most`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from tlx.contracts.field import Warp
from tlx.errors import ConfigError, DataError, did_you_mean, listed
from tlx_image.moved_boxes import move_boxes, restore_boxes
from tlx_image.warp import array_module

FORMS = (
    "Boxes are a list of [y0, x0, y1, x1, class], or of mappings with `box`, [y0, x0, y1, x1], and "
    "`class`, a name or a number; an example without any has an empty list."
)


@final
@dataclass(frozen=True)
class Boxes:
    """Up to `most` boxes, each of one of `classes`. Of one that a warp moves out of the image less
    than the share `min_visible` of its area may be left; then it is there no more."""

    classes: tuple[str, ...]
    most: int = 32
    min_visible: float = 0.1
    kind: ClassVar[str] = "boxes"

    def __post_init__(self) -> None:
        if self.most < 1 or not 0 <= self.min_visible <= 1:
            raise ConfigError(
                f"boxes: most = {self.most} is a count from 1 on, and min_visible = "
                f"{self.min_visible} a share from 0 to 1."
            )

    def read(self, raw: Any, name: str) -> dict[str, np.ndarray]:
        """`box` (n,4) float32 and `class` (n,) int32. Raises DataError for what are no boxes."""
        if isinstance(raw, Mapping) and {"box", "class"} <= raw.keys():
            raw = list(zip(raw["box"], raw["class"], strict=True))
        try:
            rows = [self._row(one, f"{name}, box {number},") for number, one in enumerate(raw)]
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} cannot be read as boxes ({error}). {FORMS}") from error
        boxes = np.asarray([box for box, _ in rows], np.float32).reshape(-1, 4)
        return {"box": boxes, "class": np.asarray([one for _, one in rows], np.int32)}

    def _row(self, raw: Any, name: str) -> tuple[list[float], int]:
        if isinstance(raw, Mapping):
            if not {"box", "class"} <= raw.keys():
                raise DataError(f"{name} has {listed(raw)}. {FORMS}")
            raw = (raw["box"], raw["class"])
        *box, own = raw
        box = [float(one) for one in (box[0] if len(box) == 1 else box)]
        if len(box) != 4 or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
            raise DataError(
                f"{name} is {box}, and a box is y0, x0, y1, x1 in pixels, with y0 < y1 and x0 < x1."
            )
        if isinstance(own, str):
            if own not in self.classes:
                raise DataError(f"{name} is of {own!r}, no class.{did_you_mean(own, self.classes)}")
            return box, self.classes.index(own)
        if own != int(own) or not 0 <= int(own) < len(self.classes):
            raise DataError(
                f"{name} is of class {own}; classes have the numbers 0 to {len(self.classes) - 1}."
            )
        return box, int(own)

    def encode(self, value: Any, name: str) -> dict[str, np.ndarray]:
        """`box` (most,4) float32, `class` (most,) int32 and which are `there` (most,), the first
        ones. Raises DataError for more than `most`."""
        count = len(value["class"])
        if count > self.most:
            raise DataError(
                f"{name} has {count} boxes, and at the most {self.most} are kept. Give the field "
                f"boxes `most = {count}` or more."
            )
        empty = self.most - count
        return {
            "box": np.pad(value["box"], ((0, empty), (0, 0))),
            "class": np.pad(value["class"], (0, empty)),
            "there": np.arange(self.most) < count,
        }

    def place(self, value: Any, warp: Warp, name: str) -> dict[str, np.ndarray]:
        """As `encode`, after a warp."""
        return self.warp(self.encode(value, name), warp)

    def warp(self, arrays: Any, warp: Warp) -> Any:
        """Every box around its corners after a warp, cut off at the edge; one that is not there any
        more is zeros, as those that never were."""
        box, visible = move_boxes(arrays["box"], warp)
        xp = array_module(box)
        there = arrays["there"] & (visible > 0) & (visible >= self.min_visible)
        own = xp.where(there, arrays["class"], 0)
        return {"box": xp.where(there[:, None], box, 0), "class": own, "there": there}

    def restore(self, array: np.ndarray, warp: Warp) -> np.ndarray:
        """Predicted boxes (n,4) in the pixels of the original, cut off at its edge."""
        return restore_boxes(array, warp)

    def decode(self, array: Any) -> list[dict[str, Any]]:
        """Of what is encoded, or predicted like it: a `box` and its `class` by name, of those that
        are there."""
        rows = zip(np.asarray(array["box"]).tolist(), array["class"], array["there"], strict=True)
        return [{"box": b, "class": self.classes[int(c)]} for b, c, there in rows if there]

    def strata(self, value: Any) -> Sequence[int]:
        """The classes that are there."""
        return [int(one) for one in np.unique(value["class"])]

    def show(self, value: Any) -> str:
        """Every box as a text."""
        rows = zip(np.asarray(value["box"]).tolist(), value["class"], strict=True)
        each = [f"{self.classes[int(own)]} {' '.join(f'{n:g}' for n in box)}" for box, own in rows]
        return "; ".join(each) or "none"

    def samples(self, rng: np.random.Generator, count: int) -> Sequence[Any]:
        """So many times one or two boxes in an image of 12 x 10."""

        def box() -> list[Any]:
            y, x = rng.integers(0, 8), rng.integers(0, 6)
            own = rng.integers(len(self.classes))
            return [int(y), int(x), int(y + 4), int(x + 4), int(own)]

        several = ([box() for _ in range(rng.integers(1, 3))] for _ in range(count))
        return [self.read(boxes[: self.most], "The boxes") for boxes in several]
