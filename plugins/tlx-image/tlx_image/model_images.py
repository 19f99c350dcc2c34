"""The images of a model: which of its ports takes them, and how."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlx.contracts.input import ports_of
from tlx.data.collate import Collate, Entry
from tlx.data.fields import Number
from tlx.errors import ConfigError, listed
from tlx_image.image_field import Image
from tlx_image.image_input import ImageInput

if TYPE_CHECKING:
    from tlx.model import Model

_PLAIN = ImageInput()


def image_input(model: Model) -> ImageInput:
    """How a model wants its images. Raises ConfigError for one that is given none, or other values
    as well."""
    inputs = [port.input for port in model.ports]
    if len(inputs) != 1 or not isinstance(inputs[0], ImageInput):
        raise ConfigError(
            f"This strategy makes images of its own, for a network that is given one image and "
            f"nothing else, and this one is given {listed(port.name for port in model.ports)}."
        )
    return inputs[0]


def with_image_input(model: Model, input_: ImageInput) -> Model:
    """The model with another way to want its images."""
    if not isinstance(model.inputs, tuple):
        return replace(model, inputs=input_)
    (port,) = model.inputs
    return replace(model, inputs=(port._replace(input=input_),))


def collate_images(size: tuple[int, int], input_: ImageInput = _PLAIN) -> Collate:
    """Batches of images on a canvas of `size` (H,W) with a label each, for a network that is given
    nothing else."""
    (port,) = ports_of(replace(input_, canvas=size))
    return Collate((Entry(port.entry, port.fields, port.input),), (("label", Number()),))


def saved_images(input_: ImageInput, canvas: tuple[int, int]) -> dict[str, Any]:
    """What a model's folder says of a network of images on a `canvas` (H,W): its ports and
    fields."""
    return {"ports": ports_of(replace(input_, canvas=canvas)), "fields": {"image": Image()}}
