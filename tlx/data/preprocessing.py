"""How pictures are to reach a network: as its weights were trained, as far as it can take that.

Weights bring their preprocessing where their file says it; a run file may say it for them; a
backbone has one of its own for when nobody does. `tlx.model.pictures` applies it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tlx.contracts.calls import has_said
from tlx.contracts.declared import fault_of_inputs
from tlx.errors import ConfigError
from tlx.types import DataInfo, InputSpec

if TYPE_CHECKING:
    from tlx.run_file.run_config import InputConfig


def with_channels(spec: InputSpec, channels: int) -> InputSpec:
    """The same for pictures of `channels` channels. Where that is another number, every channel
    gets the average mean and standard deviation: nothing is known of one of them alone.

    Raises ConfigError for less than one channel."""
    if channels < 1:
        raise ConfigError(f"channels = {channels}: a picture has at least one channel.")
    if channels == spec.channels:
        return spec
    mean, std = ((sum(values) / len(values),) * channels for values in (spec.mean, spec.std))
    return replace(spec, channels=channels, mean=mean, std=std)


def as_trained(
    file: InputSpec | None, backbone: InputSpec, stated: InputConfig | None = None
) -> InputSpec:
    """The preprocessing that weights were trained with: what their file says, or else what the
    backbone does, changed by what a run file states. The number of channels is the backbone's,
    and so is the size where that is fixed.

    Raises ConfigError for a mean or standard deviation with another number of channels, and for a
    stated size that the backbone cannot take."""
    has_said("`inputs` of the backbone", None, fault_of_inputs(backbone))
    has_said("`input` of the weights", None, fault_of_inputs(backbone if file is None else file))
    spec = with_channels(file or backbone, backbone.channels)
    changes = {k: v for k, v in asdict(stated).items() if v is not None} if stated else {}
    if isinstance(size := changes.get("size"), int):
        changes["size"] = (size, size)
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


def canvas(info: DataInfo, inputs: InputSpec) -> tuple[int, int]:
    """The (H,W) of the pictures in a batch: their own where all share one, else the network's.

    Raises ConfigError where neither says."""
    if info.shape:
        return info.shape[:2]
    if inputs.size is None:
        raise ConfigError(
            f"The pictures of {info.name!r} differ in shape and the backbone names no input size. "
            f"Use weights that bring one, or say it in [weights] input = {{ size = 224 }}."
        )
    return inputs.size
