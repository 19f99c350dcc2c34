"""The preprocessing in timm's `config.json`.

These fields are read, at the top of the file or in `pretrained_cfg`, with timm's own defaults
where it has some: `input_size` (C,H,W), `mean`, `std`, `crop_pct`, `crop_mode`, `interpolation`,
`test_input_size` and `test_crop_pct`. `label_names` and `architecture` are read by
`tlx_weights.hub_config`; the other fields (`url`, `license`, `classifier`, `first_conv`,
`pool_size` and the like) say nothing about pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

from pydantic import Field, TypeAdapter, ValidationError
from tlx_image import ImageInput

from tlx_weights.hub_config import Preprocessing, cropped, refused

_Side = Annotated[int, Field(gt=0, le=65536)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Sizes = tuple[_Side, _Side, _Side]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@final
@dataclass(frozen=True)
class PretrainedConfig:
    """The fields that are read, with timm's defaults."""

    input_size: _Sizes
    mean: tuple[_Finite, ...] = (0.485, 0.456, 0.406)
    std: tuple[_Positive, ...] = (0.229, 0.224, 0.225)
    crop_pct: _Share = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    test_input_size: _Sizes | None = None
    test_crop_pct: _Share | None = None


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether timm wrote this `config.json`."""
    return "pretrained_cfg" in config or ("architecture" in config and "input_size" in config)


def preprocessing(config: Mapping[str, Any], where: str) -> Preprocessing:
    """How the file `where` wants its pictures.

    Raises WeightsError for fields of the wrong form and for what tlx cannot do; a note where it
    does something near."""
    fields = config.get("pretrained_cfg", config)
    try:
        read = TypeAdapter(PretrainedConfig).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "pretrained_cfg"
        raise refused(where, f"holds a wrong {at!r} ({first['msg']})") from None
    channels, height, width = read.input_size
    if not len(read.mean) == len(read.std) == channels:
        raise refused(
            where,
            f"wants {channels} channels and holds {len(read.mean)} means and {len(read.std)} "
            f"standard deviations",
        )
    for interpolation in INTERPOLATIONS:
        if interpolation == read.interpolation:
            break
    else:
        raise refused(where, f"resizes by {read.interpolation!r}")
    if read.crop_mode not in ("center", "squash", "border"):
        raise refused(where, f"crops by {read.crop_mode!r}")
    notes = []
    if read.crop_mode != "center":
        notes.append(
            f"{where} says crop_mode {read.crop_mode!r}; tlx keeps the proportions of a picture "
            f"and cuts its centre, which differs for pictures that are not square"
        )
    if read.test_input_size and read.test_input_size != read.input_size:
        _, tall, wide = read.test_input_size
        crop = f" and crop {read.test_crop_pct}" if read.test_crop_pct else ""
        notes.append(
            f"{where} was tested at {tall}x{wide}{crop}, too; tlx uses the {height}x{width} that "
            f"it was trained at"
        )
    spec = ImageInput(
        size=(height, width),
        channels=channels,
        mean=read.mean,
        std=read.std,
        crop=cropped(height, read.crop_pct),
        interpolation=interpolation,
    )
    return Preprocessing(spec, tuple(notes))
