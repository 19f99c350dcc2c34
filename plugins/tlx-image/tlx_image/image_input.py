"""How a network wants its images: placed on a canvas by the host, normalised on the device.

The canvas is what images have in a batch: their own size where all share one, else the network's.
Networks that differ in nothing but what happens on the device are given the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, final, get_args

import jax
import numpy as np
from jax import Array

from tlx.contracts.field import Warp
from tlx.contracts.validation import fitted as fitting
from tlx.errors import ConfigError, ContractError, DataError, did_you_mean, listed
from tlx.types import Interpolation
from tlx_image.decode import fit, placement
from tlx_image.given_images import refuse_range
from tlx_image.pixels import as_bytes, as_floats, normalize
from tlx_image.warp import compose, crop_plane, scale_plane

UNSAID = (224, 224)
"""The size of an image that is only there to be looked at, where nobody says one."""
MOST_PIXELS = 2**26
"""Of a canvas, whatever a file says: memory is taken for it."""


@final
@dataclass(frozen=True)
class ImageInput:
    """Images (H,W,3), uint8 or float 0..1 RGB.

    On the host an image is placed on the `canvas` (H,W): resized with `interpolation`, with
    antialiasing and without changing its proportions, until it covers the canvas divided by
    `crop`, of which the centre is kept. On the device it is resized to `size`, brought to
    `channels`, multiplied by `scale`, reordered, then `(x - mean) / std`. `fixed` says that the
    network takes no other size; the canvas comes from the data (`fitted`)."""

    size: tuple[int, int] | None = None
    channels: int = 3
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    order: Literal["rgb", "bgr"] = "rgb"
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"
    fixed: bool = False
    canvas: tuple[int, int] | None = None
    kind: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        if fault := _fault(self):
            raise ContractError(f"An ImageInput is not as it has to be: {fault}.")

    def encode(self, *values: Any, name: str) -> np.ndarray:
        """The image on the canvas, uint8 or float32. Raises DataError for what is none."""
        image = np.asarray(values[0])
        floats = np.issubdtype(image.dtype, np.floating)
        if image.ndim != 3 or image.shape[2] != 3 or not (floats or image.dtype == np.uint8):
            raise DataError(
                f"{name} has the shape {image.shape} and the type {image.dtype}; a data source "
                f"gives (H,W,3), uint8 or float 0 to 1."
            )
        if floats:
            refuse_range(image, name)
        placed = fit(image, self.canvas or image.shape[:2], self.crop, self.interpolation)
        return placed.astype(np.float32, copy=False) if floats else placed

    def place(self, shape: tuple[int, ...]) -> Warp:
        """What that does to the plane of an image (H,W,...): it is resized, and a part is kept."""
        original = (int(shape[0]), int(shape[1]))
        canvas = self.canvas or original
        size = (int(canvas[0]), int(canvas[1]))
        tall, wide, *start = placement(original, size, self.crop)
        whole = scale_plane(original, (tall, wide))
        return compose(whole, crop_plane(whole.size, (start[0], start[1]), size))

    def prepare(self, arrays: Array) -> Array:
        """Images (B,H,W,C) as the network wants them."""
        return normalize(self, arrays)

    def example(self) -> Any:
        """(1,H,W,3) uint8 on the canvas."""
        side = self.canvas or self.size or UNSAID
        return jax.ShapeDtypeStruct((1, *side, 3), np.uint8)

    def to_augment(self, arrays: Array) -> Array:
        """Floats from 0 to 1."""
        return as_floats(arrays)

    def fitted(
        self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]
    ) -> ImageInput:
        """With the canvas of the images of a field: their own size where all share one, else the
        network's. Raises ConfigError where neither says."""
        shape = getattr(fields[0], "shape", None)
        if shape:
            return replace(self, canvas=(int(shape[0]), int(shape[1])))
        if self.size is None and self.canvas is not None:
            return self
        if self.size is None:
            raise ConfigError(
                "The images differ in shape and the backbone names no input size. Use weights that "
                "bring one, or say it in [weights] input = { size = 224 }."
            )
        return replace(self, canvas=self.size)

    def reading(self, other: Any) -> ImageInput | None:
        """The same for images on another network's canvas."""
        if not isinstance(other, ImageInput):
            return None
        host = {key: getattr(other, key) for key in ("canvas", "crop", "interpolation")}
        if self.size is not None and self.size != other.canvas:
            del host["interpolation"]  # of the device, too
        return replace(self, **host)

    def merged(self, backbone: Any, stated: Mapping[str, Any]) -> ImageInput:
        """The preprocessing that weights were trained with, changed by what a run file states. The
        number of channels is the backbone's, and so is the size where that is fixed.

        Raises ConfigError for a mean or standard deviation with another number of channels, and for
        a stated size that the backbone cannot take."""
        spec = with_channels(self, backbone.channels)
        changes = _stated(stated)
        for name in ("mean", "std"):
            if len(found := changes.get(name, getattr(spec, name))) != spec.channels:
                raise ConfigError(
                    f"weights.input.{name}: {len(found)} numbers for pictures of "
                    f"{spec.channels} channels. Give one for each."
                )
        spec = replace(spec, **changes, fixed=backbone.fixed)
        if not backbone.fixed:
            return spec
        if "size" in changes and spec.size != backbone.size:
            raise ConfigError(
                f"weights.input.size: the backbone takes pictures of {backbone.size} alone, not of "
                f"{spec.size}. Its own option `size` says for which it is built."
            )
        return replace(spec, size=backbone.size)

    def show(self, value: np.ndarray) -> np.ndarray:
        """An image on the canvas, uint8."""
        return as_bytes(value)

    def describe(self) -> Mapping[str, Any]:
        """As timm has it, whose networks take images of 0 to 1."""
        height, width = self.size or self.canvas or UNSAID
        order = {} if self.order == "rgb" else {"channel_order": self.order}
        return {
            "input_size": [self.channels, height, width],
            "mean": [value / self.scale for value in self.mean],
            "std": [value / self.scale for value in self.std],
            "crop_pct": crop_pct(height, self),
            "crop_mode": "center",
            "interpolation": self.interpolation,
            **order,
        }

    def warnings(self, values: Sequence[Any], *, pretrained: bool) -> tuple[str, ...]:
        """What does not look as the network wants it, of a few images."""
        images = [np.asarray(value) for value in values]
        canvas = self.canvas or self.size or UNSAID
        from tlx_image.input_warnings import find_shrunk, find_warnings

        if pretrained:
            return find_warnings(images, canvas, self)
        return find_shrunk(images, self.size or canvas)


def crop_pct(side: int, inputs: ImageInput) -> float:
    """The share that gives as many pixels where `side / share` is cut down to a whole number as
    it does here, where it is rounded."""
    whole = round(side / inputs.crop)
    return inputs.crop if int(side / inputs.crop) == whole else side / (whole + 0.01)


def with_channels(spec: ImageInput, channels: int) -> ImageInput:
    """The same for images of `channels` channels. Where that is another number, every channel
    gets the average mean and standard deviation: nothing is known of one of them alone.

    Raises ConfigError for less than one channel."""
    if channels < 1:
        raise ConfigError(f"channels = {channels}: a picture has at least one channel.")
    if channels == spec.channels:
        return spec
    mean, std = ((sum(values) / len(values),) * channels for values in (spec.mean, spec.std))
    return replace(spec, channels=channels, mean=mean, std=std)


STATED: Mapping[str, Any] = {
    "size": int | tuple[int, int],
    "mean": tuple[float, ...],
    "std": tuple[float, ...],
    "scale": float,
    "order": Literal["rgb", "bgr"],
    "crop": float,
    "interpolation": Interpolation,
}
"""What a run file may say of the images that weights were trained on."""


def _stated(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a run file states, as the fields want it. Raises ConfigError for what is none."""
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in stated.items():
        if key not in STATED:
            problems.append(
                f"weights.input.{key}: unknown key.{did_you_mean(key, STATED)} It takes "
                f"{listed(STATED)}."
            )
            continue
        found[key], wrong = fitting(STATED[key], value, f"weights.input.{key}")
        problems += wrong
    if not problems:
        if isinstance(size := found.get("size"), int):
            found["size"] = (size, size)
        try:
            replace(ImageInput(), **found)
        except ContractError as error:
            problems = [f"weights.input: {str(error).partition(': ')[2]}"]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _fault(spec: ImageInput) -> str:
    for name in ("size", "canvas"):
        sides = getattr(spec, name)
        if sides is not None and not (
            isinstance(sides, tuple | list) and len(sides) == 2 and all(map(_counts, sides))
        ):
            return f"its {name} is {sides!r}, and has to be (height, width) in pixels, or None"
    if spec.canvas is not None and spec.canvas[0] * spec.canvas[1] > MOST_PIXELS:
        return f"its canvas is {spec.canvas[0]}x{spec.canvas[1]}, which is no size of an image"
    if not _counts(spec.channels):
        return f"its channels are {spec.channels!r}, and have to be a whole number from 1 on"
    for name in ("mean", "std"):
        values = getattr(spec, name)
        if not (isinstance(values, tuple | list) and values and all(map(_measures, values))):
            return f"its {name} is {values!r}, and has to be a tuple of numbers, one a channel"
    if not (all(s > 0 for s in spec.std) and _measures(spec.scale) and spec.scale > 0):
        return f"its std is {spec.std!r} and its scale {spec.scale!r}: numbers above 0"
    if not (_measures(spec.crop) and 0 < spec.crop <= 1):
        return f"its crop is {spec.crop!r}, and has to be a number above 0, 1 at the most"
    if spec.order not in ("rgb", "bgr") or spec.interpolation not in get_args(Interpolation):
        return f"its order is {spec.order!r} and its interpolation {spec.interpolation!r}"
    return ""


def _counts(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _measures(value: Any) -> bool:
    return isinstance(value, Real) and value == value and abs(value) != float("inf")
