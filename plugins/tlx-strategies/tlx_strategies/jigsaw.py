"""Jigsaw: in which order do the tiles of a picture belong? No labels.

A network that knows how things are put together can tell (Noroozi & Favaro 2016,
arXiv:1603.09246). It looks at every tile alone, as the paper's context-free network does, and only
a small classifier sees them side by side: so it cannot get by with comparing edges.
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
from tlx_image.model_images import image_input, with_image_input
from tlx_image.pixels import normalize

from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.training.health import representation
from tlx.types import Batch, Constants, Forward, Mode, NormPolicy, Variables, unlabelled
from tlx_strategies import label_free, pretext_classifier, tiles
from tlx_strategies.embedding import width
from tlx_strategies.example_keys import example_keys
from tlx_strategies.permutations import distant

SMALLEST = 2
"""Pixels that the side of a tile must have at least."""


@final
@dataclass(frozen=True)
class Jigsaw:
    """Train the backbone, and a classifier of two layers on the tiles' deepest features, to tell
    which of some permutations the tiles of a picture are in.

    A network that takes pictures of any size sees tiles as large as they are in the whole picture
    at the network's own size, so a step costs about what its batch costs; one of a fixed size sees
    each tile enlarged to that size, and a step costs grid x grid times as much. The loss is the
    cross-entropy; the logarithm of `permutations` is that of features without any content.

    Args:
        grid: tiles a side, 2 or 3. The paper has 3, in pictures of 225 pixels.
        permutations: how many orders there are to choose from, as different from each other as
            can be; at most 24 for 2 x 2 tiles. The paper has up to 1000 for 3 x 3.
        gap: share of a tile's cell that is left out, so that edges do not meet.
        width: units of the classifier's hidden layer.
        norm: what batch norm does: 'train' follows the statistics of tiles (which fine-tuning
            with 'train' replaces), 'frozen' keeps those the run started with.
    """

    grid: int = 2
    permutations: int = 24
    gap: float = 0.15
    width: int = 256
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.grid not in (2, 3):
            raise ConfigError(f"A jigsaw has a grid of 2 or 3 tiles a side, not {self.grid}.")
        most = min(math.factorial(self.grid**2), 1000)
        if not 2 <= self.permutations <= most:
            raise ConfigError(
                f"permutations must be between 2 and {most} for {self.grid} x {self.grid} tiles, "
                f"not {self.permutations}."
            )
        if not 0 <= self.gap < 1:
            raise ConfigError(f"gap is a share of a cell, at least 0 and below 1, not {self.gap}.")
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, not {self.width}.")

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The best on validation: this task can be learnt by heart."""
        return "best"

    def trivial(self, batch_size: int) -> float:
        """The logarithm of the number of permutations."""
        return math.log(self.permutations)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The classifier. Raises DataError for pictures that are too small to be cut."""
        size = jax.eval_shape(lambda image: _whole(model, image), batch.inputs["image"]).shape[1:3]
        if min(tiles.shape(size, self.grid, self.gap)) < SMALLEST:
            raise DataError(
                f"Pictures of {size[0]} x {size[1]} pixels are too small for {self.grid} x "
                f"{self.grid} tiles with a gap of {self.gap}. Take a smaller `gap` or `grid`, or a "
                f"larger [data] size."
            )
        every = self.grid**2 * width(model)
        return Variables(pretext_classifier.init(rng, every, self.width, self.permutations), {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head, which would stay random."""
        (phase,) = label_free.whole("jigsaw", model, steps, self.forward)
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
        """All tiles in one pass, each as a picture. `inputs` are the whole pictures and `features`
        those of a second pass over them, which `jit` leaves out where nobody asks for it; there
        are no outputs."""
        for_puzzle, for_tiles, for_whole = jax.random.split(rng, 3)
        cut, answers = self.puzzle(model, batch, rng=for_puzzle, mode=mode)
        apart = cut.reshape(-1, *cut.shape[2:])
        fed = unlabelled({"image": apart})
        features, body = _small(model).features(variables, fed, rng=for_tiles, mode=mode)
        each = representation(model.backbone.features, features)
        logits = pretext_classifier.apply(variables.params["strategy"], each.reshape(len(cut), -1))
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, answers)
        whole, _ = model.features(variables, batch, rng=for_whole, mode=mode)
        return Forward(loss, batch.inputs, whole, None, {**variables.state, "backbone": body})

    def puzzle(self, model: Model, batch: Batch, *, rng: Array, mode: Mode) -> tuple[Array, Array]:
        """The tiles (B,n,h,w,C) in disorder, and the number (B,) of the permutation: at place p
        lies the tile that belongs to the place `distant(...)[number][p]`."""
        keys = jax.vmap(jax.random.split)(example_keys(batch, rng, mode))
        image = _whole(model, batch.inputs["image"])
        ordered = tiles.evened(tiles.cut(keys[:, 0], image, self.grid, self.gap))
        orders = jnp.asarray(distant(self.grid**2, self.permutations))
        answers = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(orders)))(keys[:, 1])
        return jax.vmap(lambda one, order: one[order])(ordered, orders[answers]), answers

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures, and their tiles in disorder."""
        cut, _ = self.puzzle(model, batch, rng=rng, mode="train")
        seen = jnp.clip(tiles.laid(cut), 0, 1)
        return {"original": normalize(ImageInput(), batch.inputs["image"]), "seen": seen}


def _whole(model: Model, image: Array) -> Array:
    """Raw pictures as fractions and as large as the network sees them."""
    ours = image_input(model)
    return normalize(ImageInput(size=ours.size, interpolation=ours.interpolation), image)


def _small(model: Model) -> Model:
    """The same model for tiles: as large as they come, if it takes them so."""
    ours = image_input(model)
    return model if ours.fixed else with_image_input(model, replace(ours, size=None))
