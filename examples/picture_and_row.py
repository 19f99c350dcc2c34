"""Handwritten digits of which a network sees the upper half, and is told about the lower one.

scikit-learn's digits: the picture has its lower four lines of pixels painted black, and a row of
eight numbers says how much ink each column has there. Neither says all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tlx_image import Image

from tlx.backbones.functions import FunctionBackbone, wrap_functions
from tlx.data.fields import ClassLabel
from tlx.data.vector_field import Vector
from tlx.data.vector_input import VectorInput
from tlx.types import DataInfo

INK = 16
"""As which ink is counted at the most."""


@dataclass(frozen=True, eq=False)
class Halves:
    """`image` (8,8,3) uint8, `ink` (8,) and `label`. A Split, and Labelled."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = self.pixels[index]
        upper = np.where(np.arange(8)[:, None] < 4, pixels, 0)
        image = np.round(upper * (255 / INK)).astype(np.uint8)
        return {
            "image": np.broadcast_to(image[..., None], (8, 8, 3)),
            "ink": pixels[4:].sum(0),
            "label": self.labels[index],
        }


@dataclass(frozen=True)
class HalfDigits:
    """One split, 'train', of 1797 digits."""

    @cached_property
    def info(self) -> DataInfo:
        """A picture, a row, and which digit they are."""
        classes = ClassLabel(tuple("0123456789"))
        columns = Vector(tuple(f"column{number}" for number in range(8)))
        fields = {"image": Image((8, 8, 3)), "ink": columns, "label": classes}
        whole = self.split("train")
        digest = hashlib.sha256(whole.pixels.tobytes() + whole.labels.tobytes()).hexdigest()
        return DataInfo("half_digits", fields, {"train": len(whole)}, digest)

    def split(self, name: str) -> Halves:
        """The split 'train'."""
        return {"train": _read()}[name]


@lru_cache(maxsize=1)
def _read() -> Halves:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return Halves(np.asarray(pixels, np.float32).reshape(-1, 8, 8), np.asarray(labels, np.int32))


def _init(rng: jax.Array, x: jax.Array, width: int) -> dict[str, Any]:
    kernel = jax.random.normal(rng, (x.shape[1], width)) / jnp.sqrt(x.shape[1])
    return {"kernel": kernel, "bias": jnp.zeros(width)}


def _apply(params: dict[str, Any], x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["kernel"] + params["bias"])


def dense(width: int = 64) -> FunctionBackbone:
    """A network for a row: one dense layer."""
    return wrap_functions(_init, _apply, ("pooled",), VectorInput(), options={"width": width})
