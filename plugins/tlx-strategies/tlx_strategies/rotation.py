"""Rotation prediction: by how many quarter turns was a picture turned? No labels.

Only a network that knows what things look like can say which side is up (Gidaris et al. 2018,
arXiv:1803.07728). It is no task for pictures that look alike from all sides, such as cells or
textures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tlx_image import ImageInput
from tlx_image.pixels import normalize

from tlx.errors import DataError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.training.health import representation
from tlx.types import Batch, Constants, Forward, Mode, NormPolicy, Variables, unlabelled
from tlx_strategies import label_free, pretext_classifier
from tlx_strategies.embedding import width

TURNS = 4


@final
@dataclass(frozen=True)
class Rotation:
    """Train the backbone, and a linear classifier on its deepest feature, to tell 0, 90, 180 and
    270 degrees apart.

    Every picture is in a batch in all four positions (section 3.1), so a step costs what four
    times its batch size costs. The loss is the mean cross-entropy of the four; log 4 = 1.386 is
    that of features without any content.

    Args:
        norm: what batch norm does: 'train' follows the statistics of turned pictures (which
            fine-tuning with 'train' replaces), 'frozen' keeps those the run started with.
    """

    norm: NormPolicy = "train"

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The best on validation: this task can be learnt by heart."""
        return "best"

    def trivial(self, batch_size: int) -> float:
        """log 4."""
        return math.log(TURNS)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The classifier. Raises DataError for pictures that are not square."""
        tall, wide = batch.inputs["image"].shape[1:3]
        if tall != wide:
            raise DataError(
                f"The strategy 'rotation' turns pictures by 90 degrees, so they must be square; "
                f"these are {tall} x {wide}. Set [data] size to a square, such as "
                f"[{min(tall, wide)}, {min(tall, wide)}]."
            )
        return Variables(pretext_classifier.init(rng, width(model), TURNS), {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head, which would stay random."""
        (phase,) = label_free.whole("rotation", model, steps, self.forward)
        return (replace(phase, norm=self.norm),)

    def forward(
        self,
        model: Model,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        mode: Mode,
        progress: Array,
    ) -> Forward:
        """All four positions in one pass. `inputs` and `features` are those of the upright
        pictures; there are no outputs."""
        image = batch.inputs["image"]
        # The four of a picture lie together, so that a batch on several devices stays where it is.
        views = _all_turns(image).reshape(-1, *image.shape[1:])
        features, body = model.features(variables, unlabelled({"image": views}), rng=rng, mode=mode)
        whole = representation(model.backbone.features, features)
        logits = pretext_classifier.apply(variables.params["strategy"], whole)
        answers = jnp.tile(jnp.arange(TURNS), len(image))
        each = optax.losses.softmax_cross_entropy_with_integer_labels(logits, answers)
        upright = {name: leaf[::TURNS] for name, leaf in features.items()}
        loss = each.reshape(-1, TURNS).mean(1)
        return Forward(loss, batch.inputs, upright, None, {**variables.state, "backbone": body})

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures, and each in one of its four positions."""
        image = normalize(ImageInput(), batch.inputs["image"])
        turns = jax.random.randint(rng, (len(image),), 0, TURNS)
        return {"original": image, "seen": _all_turns(image)[jnp.arange(len(image)), turns]}


def _all_turns(image: Array) -> Array:
    """(B,H,H,C) -> (B,4,H,H,C), anticlockwise."""
    return jnp.stack([jnp.rot90(image, turns, (1, 2)) for turns in range(TURNS)], 1)
