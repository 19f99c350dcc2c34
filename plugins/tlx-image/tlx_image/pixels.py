"""Pixels as networks want them: resized on the device, in their channels, normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.types import Batch, Interpolation

if TYPE_CHECKING:
    from tlx_image.image_input import ImageInput

RESIZE: Mapping[Interpolation, str] = {
    "nearest": "nearest",
    "bilinear": "linear",
    "bicubic": "cubic",
    "lanczos": "lanczos3",
}
"""What jax calls a way to resize; the kernels are those of Pillow."""


def normalize(spec: ImageInput, image: Array) -> Array:
    """Raw images (B,H,W,C), uint8 or float 0..1 RGB, as the network wants them."""
    x = as_floats(image)
    if spec.size is not None and x.shape[1:3] != spec.size:
        way = RESIZE[spec.interpolation]
        x = jax.image.resize(x, (x.shape[0], *spec.size, x.shape[3]), way, antialias=True)
    if x.shape[-1] != spec.channels:
        x = (
            x.mean(-1, keepdims=True)
            if spec.channels == 1
            else jnp.broadcast_to(x, (*x.shape[:-1], spec.channels))
        )
    x = x * spec.scale
    if spec.order == "bgr":
        x = x[..., ::-1]
    return (x - jnp.asarray(spec.mean, x.dtype)) / jnp.asarray(spec.std, x.dtype)


def with_image(batch: Batch, image: Any) -> Batch:
    """The batch with other images (B,H,W,C)."""
    return batch._replace(inputs={**batch.inputs, "image": image})


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Images uint8 or float 0..1, as uint8."""
    if np.issubdtype(image.dtype, np.floating):
        return (255 * np.clip(np.nan_to_num(image), 0, 1)).round().astype(np.uint8)
    return image


def as_floats(image: Array) -> Array:
    """Images (B,H,W,C), uint8 or float, as floats from 0 to 1."""
    return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
