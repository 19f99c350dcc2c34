"""Model folders of the first formats: one image a network, its preprocessing beside its canvas.

They name no plugin for that, so the kinds that are called `image` stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlx import registry
from tlx.contracts.field import Fields
from tlx.contracts.input import Ports, ports_of

IMAGE = "image"


def of_images(inputs: Mapping[str, Any], canvas: Sequence[int]) -> tuple[Ports, Fields]:
    """The port and the field of a network of images. Raises TlxError for what is none."""
    options = {**inputs, "canvas": list(canvas)}
    input_ = registry.build("inputs", IMAGE, options)
    return ports_of(input_), {IMAGE: registry.build("fields", IMAGE)}
