"""A complete small setting: a model with numbers, a batch, a source model.

Heads, divergences, strategies and steps are checked in it. It has everything that a real run has:
batch statistics, dropout, stages, an augmentation-ready batch with padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.types import Batch, Constants, Features, Mode, Params, PyTree, State, Variables

BATCH = 6
CLASSES = 3


@final
@dataclass(frozen=True)
class ToyHead:
    """A linear softmax classifier on the feature `pooled`."""

    classes: int = CLASSES

    @property
    def needs(self) -> tuple[str, ...]:
        """`pooled`."""
        return ("pooled",)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """Highest accuracy."""
        return ("accuracy", "max")

    def init(self, rng: Array, features: Features) -> Variables:
        """A kernel (C,classes) and a bias (classes,)."""
        shape = (features["pooled"].shape[-1], self.classes)
        kernel = jax.random.normal(rng, shape) / jnp.sqrt(shape[0])
        return Variables({"kernel": kernel, "bias": jnp.zeros(self.classes)}, {})

    def apply(
        self,
        params: Params,
        state: State,
        features: Features,
        *,
        inputs: Mapping[str, PyTree],
        rng: Array,
        mode: Mode,
    ) -> tuple[Array, State]:
        """Logits (B,classes)."""
        return features["pooled"] @ params["kernel"] + params["bias"], state

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Cross-entropy (B,)."""
        each = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(each, batch.targets["label"][:, None], axis=1)[:, 0]

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """`class` (B,)."""
        return {"class": outputs.argmax(-1)}

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """How many examples, and how many right ones."""
        right = (outputs.argmax(-1) == batch.targets["label"]) * batch.weight
        return {"n": batch.weight.sum(), "correct": right.sum()}

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """`accuracy`."""
        return {"accuracy": float(totals["correct"]) / max(float(totals["n"]), 1.0)}


class World(NamedTuple):
    """`variables` of `model`; `source` of the same model with other numbers; `batch` (6,...)."""

    model: Model
    variables: Variables
    source: Variables
    batch: Batch


def inverted(batch: Batch) -> Batch:
    """The negatives of a batch's pictures."""
    return batch._replace(inputs={"image": 255 - batch.inputs["image"]})


@cache
def world(size: int = 32) -> World:
    """The setting with pictures `size` by `size`. Immutable, so made once."""
    backbone = ToyBackbone(size=(size, size))
    model = Model(backbone, ToyHead(), backbone.inputs)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    batch = Batch(
        {"image": jnp.asarray(pixels)},
        {"label": jnp.asarray(np.arange(BATCH, dtype=np.int32) % CLASSES)},
        jnp.asarray(np.arange(BATCH, dtype=np.int32) + 10),
        jnp.asarray(np.ones(BATCH, np.float32)),
    )
    init = quick_jit(model.init)
    return World(model, init(jax.random.key(1), batch), init(jax.random.key(2), batch), batch)


def constants(here: World, **hyper: Any) -> Constants:
    """What a step reads: the source, no prepared quantities, a learning rate of 0.1."""
    basic = {"learning_rate": 0.1, "weight_decay": 0.0, "steps": 100.0, "divergence": {}}
    return Constants({"source": here.source}, {}, {}, basic | hyper)
