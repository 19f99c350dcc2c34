"""A picture, a vector and a sequence in each example, and networks and distances for them."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from tlx_image import Image

from tlx.backbones.functions import wrap_functions
from tlx.data.fields import ClassLabel
from tlx.data.sequence_field import Sequence
from tlx.data.vector_field import Vector
from tlx.data.vector_input import VectorInput
from tlx.types import DataInfo


@dataclass(frozen=True)
class Trio:
    """Three classes, of which each field tells a part; `shift` moves the rows of a split."""

    shift: float = 0.0
    split_shifted: str = "train"

    @cached_property
    def info(self):
        fields = {
            "photo": Image((8, 8, 3)),
            "row": Vector(("a", "b", "c")),
            "dna": Sequence(),
            "label": ClassLabel(("red", "green", "blue")),
        }
        return DataInfo("trio", fields, {"train": 60, "val": 18, "test": 21}, "trio")

    def split(self, name):
        rng = np.random.default_rng(len(name))
        shift = self.shift if name == self.split_shifted else 0.0
        found = []
        for number in range(self.info.splits[name]):
            label = number % 3
            photo = rng.integers(0, 120, (8, 8, 3))
            photo[..., 0] += 100 * (label == 0)
            row = rng.normal(size=3) + 2 * (label == 1) + shift
            dna = "".join(rng.choice(list("ACG" if label else "GT"), rng.integers(4, 9)))
            found.append({"photo": photo.astype(np.uint8), "row": row, "dna": dna, "label": label})
        return found


def _init(rng, x, width):
    kernel = jax.random.normal(rng, (x.shape[1], width)) / jnp.sqrt(x.shape[1])
    return {"kernel": kernel, "bias": jnp.zeros(width)}


def _apply(params, x):
    return jax.nn.relu(x @ params["kernel"] + params["bias"])


def dense(width: int = 8):
    """One dense layer, in one piece."""
    return wrap_functions(_init, _apply, ("pooled",), VectorInput(), options={"width": width})


def agreement(*, features):
    """How far the picture's and the row's vectors are apart, features of two towers."""
    return jnp.mean((features["image/pooled"] - features["row/pooled"]) ** 2)
