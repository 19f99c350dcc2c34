"""The preprocessing in transformers' `preprocessor_config.json`.

These fields are read: `image_processor_type` or `feature_extractor_type` (for what a bare number
as `size` means, and which processors go ways of their own), `do_resize`, `size` (a number,
`height` and `width`, or `shortest_edge`), `resample` (Pillow's number), `crop_pct` (ConvNeXT),
`do_center_crop`, `crop_size`, `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean`,
`image_std` and `do_flip_channel_order`. Any other step that is switched on (`do_...` or
`rescale_offset` true) is refused, except for the conversion to RGB, which tlx always does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, final

from pydantic import Field, TypeAdapter, ValidationError
from tlx_image import ImageInput

from tlx.types import Interpolation
from tlx_weights.hub_config import Preprocessing, cropped, refused

_Side = Annotated[int, Field(gt=0, le=65536)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Size: TypeAlias = _Side | tuple[_Side, _Side] | dict[str, _Side | None]
_Stats: TypeAlias = tuple[_Finite, ...] | _Finite | None

RESAMPLE: Mapping[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
SHORTEST = ("Bit", "CLIP", "ChineseCLIP", "ConvNext", "MobileNetV1", "MobileNetV2", "MobileViT")
"""Processors for which a bare number is the shortest edge; for others it is both."""
PECULIAR = ("EfficientNet", "Levit", "PoolFormer")
"""Processors that scale or normalise in a way that their files do not say."""
WARPED = 384
"""From this size on ConvNeXT's processor changes proportions instead of cropping."""
KNOWN = (
    "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order",
    "do_convert_rgb",
)  # fmt: skip


@final
@dataclass(frozen=True)
class ProcessorConfig:
    """The fields that are read."""

    size: _Size
    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    do_resize: bool = True
    resample: int | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    do_center_crop: bool = False
    crop_size: _Size | None = None
    do_rescale: bool = True
    rescale_factor: _Positive = 1 / 255
    do_normalize: bool | None = None
    image_mean: _Stats = None
    image_std: _Stats = None
    do_flip_channel_order: bool = False

    @property
    def normalises(self) -> bool:
        """Whether mean and standard deviation are used; all processors but one do by default."""
        return self.kind != "MobileViT" if self.do_normalize is None else self.do_normalize

    @property
    def kind(self) -> str:
        """'ViT' of ViTImageProcessor, ViTFeatureExtractor, ViTImageProcessorFast."""
        name = self.image_processor_type or self.feature_extractor_type or ""
        return re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", name)


@final
@dataclass(frozen=True)
class Canvas:
    """What a picture is resized to, (H,W), and whether its proportions are kept."""

    height: int
    width: int
    proportions: Literal["kept", "changed"]


def preprocessing(fields: Mapping[str, Any], channels: int, where: str) -> Preprocessing:
    """How the file `where` wants its pictures, of `channels` channels.

    Raises WeightsError for fields of the wrong form and for what tlx cannot do; a note where it
    does something near."""
    for name, value in fields.items():
        if value is True and (
            name == "rescale_offset" or (name[:3] == "do_" and name not in KNOWN)
        ):
            raise refused(where, f"asks for {name}")
    try:
        read = TypeAdapter(ProcessorConfig).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        at = first["loc"][0] if first["loc"] else "form"
        raise refused(where, f"holds a wrong {at!r} ({first['msg']})") from None
    if read.kind in PECULIAR:
        raise refused(where, f"is of a {read.kind} processor with steps of its own")
    size, crop, proportions = _geometry(read, where)
    mean = _stats(read.image_mean, channels, 0.0, "image_mean", read, where)
    std = _stats(read.image_std, channels, 1.0, "image_std", read, where)
    if min(std) <= 0:
        raise refused(where, "divides by an image_std that is not positive")
    spec = ImageInput(
        size=size,
        channels=channels,
        mean=mean,
        std=std,
        # tlx hands on 0..1, transformers 0..255 times the factor.
        scale=_near_one(255 * read.rescale_factor) if read.do_rescale else 255.0,
        order="bgr" if read.do_flip_channel_order else "rgb",
        crop=crop,
        interpolation=_interpolation(read, where),
    )
    note = (
        f"{where} brings pictures to a square whatever their proportions; tlx keeps the "
        f"proportions and cuts the centre, which differs for pictures that are not square"
    )
    return Preprocessing(spec, () if proportions == "kept" else (note,))


def _geometry(
    read: ProcessorConfig, where: str
) -> tuple[tuple[int, int] | None, float, Literal["kept", "changed"]]:
    """(size of the pictures, share that the crop keeps, what happens to proportions)."""
    if not read.do_resize:
        if read.do_center_crop:
            raise refused(where, "crops pictures without resizing them")
        return None, 1.0, "kept"
    canvas = _canvas(read.size, read.kind in SHORTEST, where)
    if read.kind == "ConvNext":
        if canvas.height >= WARPED:
            return (canvas.height, canvas.width), 1.0, "changed"
        crop_pct = 224 / 256 if read.crop_pct is None else read.crop_pct
        return (canvas.height, canvas.width), cropped(canvas.height, crop_pct), "kept"
    if not read.do_center_crop:
        if canvas.proportions == "kept":
            raise refused(where, "resizes the shortest edge and does not crop")
        return (canvas.height, canvas.width), 1.0, "changed"
    if read.crop_size is None:
        raise refused(where, "asks for a crop and gives no crop_size")
    inner = _canvas(read.crop_size, False, where)
    if inner.height > canvas.height or inner.width > canvas.width:
        raise refused(where, "crops more than there is")
    return (inner.height, inner.width), inner.height / canvas.height, canvas.proportions


def _canvas(size: _Size, shortest: bool, where: str) -> Canvas:
    if isinstance(size, int):
        return Canvas(size, size, "kept" if shortest else "changed")
    if isinstance(size, tuple):
        return Canvas(size[0], size[1], "changed")
    named = {name: side for name, side in size.items() if side is not None}
    if named.keys() == {"shortest_edge"}:
        return Canvas(named["shortest_edge"], named["shortest_edge"], "kept")
    if named.keys() == {"height", "width"}:
        return Canvas(named["height"], named["width"], "changed")
    raise refused(where, f"gives a size by {', '.join(sorted(named)) or 'nothing'}")


def _stats(
    given: _Stats, channels: int, neutral: float, name: str, read: ProcessorConfig, where: str
) -> tuple[float, ...]:
    if not read.normalises:
        return (neutral,) * channels
    if given is None:
        raise refused(where, f"normalises and gives no {name}")
    values = given if isinstance(given, tuple) else (given,) * channels
    if len(values) != channels:
        raise refused(where, f"holds {len(values)} numbers as {name} for {channels} channels")
    return values


def _interpolation(read: ProcessorConfig, where: str) -> Interpolation:
    if not read.do_resize:
        return "bilinear"
    if read.resample is None:
        raise refused(where, "does not say by which `resample` it resizes")
    if read.resample not in RESAMPLE:
        raise refused(where, f"resizes by Pillow's filter number {read.resample}")
    return RESAMPLE[read.resample]


def _near_one(scale: float) -> float:
    """1 where a factor such as 0.00392156862745098 was meant."""
    return 1.0 if abs(scale - 1) < 1e-6 else scale
