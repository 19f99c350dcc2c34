"""Masked pre-training: hide patches of a picture and predict them from the rest. No labels.

A convolutional network that can be masked layer by layer sees visible cells alone, and a light
U-Net draws the others (Tian et al. 2023, SparK, arXiv:2301.03580). A Vision Transformer gets the
visible patches alone, and a small Transformer draws the others (He et al. 2022, MAE,
arXiv:2111.06377). For any other backbone with a feature map, hidden patches of the input are
painted over with the mean of what is visible (Pathak et al. 2016, arXiv:1604.07379).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image.model_images import image_input

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import (
    Batch,
    Constants,
    Features,
    Forward,
    Mode,
    NormPolicy,
    State,
    Variables,
)
from tlx_strategies import decoder, masking, patches, supervised, token_decoder
from tlx_strategies.example_keys import example_keys
from tlx_strategies.label_free import refuse_head
from tlx_strategies.shown import in_colour, shown


class Guess(NamedTuple):
    """What was predicted of a batch, and from what.

    `canvas` (B,H,W,C) is what the patches are cut of; `hidden` (B,rows,columns); `predicted`
    (B,rows*columns,P) with each patch's mean and deviation taken out; the rest as in `Forward`."""

    canvas: Array
    hidden: Array
    predicted: Array
    inputs: Mapping[str, Array]
    features: Features
    state: State

    @property
    def patch(self) -> int:
        """Side of a patch in pixels of the canvas."""
        return self.canvas.shape[1] // self.hidden.shape[1]

    @property
    def target(self) -> Array:
        """(B,rows*columns,P), what the patches look like."""
        return patches.cut(self.canvas, self.patch)


@final
@dataclass(frozen=True)
class Masked:
    """Train backbone and decoder to predict hidden patches.

    The loss is the squared error on hidden patches, each normalised to mean 0 and variance 1: a
    network that has learnt nothing is at 1 (lower where patches are flat). Evaluation hides the
    same patches of an example every time.

    Args:
        ratio: share of the patches that is hidden, between 0 and 1; by default .75 for a Vision
            Transformer and .6 for others.
        patch: side of a patch in pixels of the picture as it comes from the data, which divides
            height and width; 8 by default. A network that can be masked has patches of its own.
        width: channels of the decoder: of the Transformer, or at the deepest map, from where they
            are halved at every scale.
        depth: blocks of the Transformer, or convolutions at every scale.
        norm: what batch norm does: 'train' follows the statistics of masked pictures (which
            fine-tuning with 'train' replaces), 'frozen' keeps those the run started with.
    """

    ratio: float | None = None
    patch: int | None = None
    width: int = 128
    depth: int = 1
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ConfigError(
                f"ratio is the share of hidden patches, between 0 and 1, not {self.ratio}."
            )
        least = {"patch": self.patch, "width": self.width, "depth": self.depth}
        for name, value in least.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}.")

    @property
    def keeps(self) -> Literal["best"]:
        """The lowest loss on validation, whose hidden patches are always the same."""
        return "best"

    def trivial(self, batch_size: int) -> float:
        """1, the variance of what is predicted."""
        return 1.0

    def notes(self, model: Model) -> tuple[str, ...]:
        """A sentence where the network sees painted pictures."""
        if masking.way(model) != "painted":
            return ()
        return (
            "This backbone cannot be masked layer by layer, so the hidden patches of its input are "
            "painted over with the mean of what is visible, and it sees where they are.",
        )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The decoder. Raises DataError for pictures that patches do not divide into several,
        ConfigError for a backbone without map or tokens, or options that do not suit it."""
        way = masking.way(model)
        rows, columns = masking.grid(model, batch, self.patch)
        canvas = jax.eval_shape(lambda image: masking.canvas(model, image), batch.inputs["image"])
        features = masking.shapes(model, batch, (rows, columns))
        how = {"width": self.width, "depth": self.depth}
        if way == "tokens":
            if self.width % 4:
                raise ConfigError(
                    f"width = {self.width} is not a multiple of 4. A decoder of tokens needs one: "
                    f"sines and cosines of row and column."
                )
            pixels = canvas.shape[1] * canvas.shape[2] * canvas.shape[3] // (rows * columns)
            made = token_decoder.init(rng, masking.tokens(model, features).shape[-1], pixels, **how)
        else:
            maps = masking.maps(model, features)
            made = decoder.init(rng, maps, canvas.shape, masked=way == "maps", **how)
        return Variables(made, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head, which would stay random."""
        refuse_head(model, "masked")
        return (
            Phase(
                name="masked",
                steps=steps,
                group=supervised.part,
                forward=self.forward,
                norm=self.norm,
            ),
        )

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
        """What is visible through the backbone, and the decoder's error on the rest (B,).

        `features` are those of the visible patches. `inputs` are the pictures as they come, or
        painted ones where the network sees such. There are no outputs."""
        made = self._guess(model, variables, batch, rng, mode)
        target = patches.contrast(made.target)
        hidden = made.hidden.reshape(len(target), -1)
        loss = patches.hidden_error(made.predicted, target, hidden)
        return Forward(loss, made.inputs, made.features, None, made.state)

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures, what was seen of them, and with hidden patches as predicted; a predicted
        patch gets the mean and the deviation of the true one, which are not predicted."""

        def guess(variables: Variables, batch: Batch) -> Guess:
            return self._guess(model, variables, batch, rng, "eval")

        made = jax.jit(guess)(variables, batch)
        mean, deviation = patches.level(made.target)
        filled = patches.laid(made.predicted * deviation + mean, made.patch, made.canvas.shape)
        undone = in_colour if model.cell is None else lambda x: shown(image_input(model), x)
        original = undone(made.canvas)
        pixels = _pixels(made.hidden, made.patch, made.canvas)
        return {
            "original": original,
            "seen": jnp.where(pixels, 0.5, original),
            "filled in": jnp.where(pixels, undone(filled), original),
        }

    def _guess(
        self, model: Model, variables: Variables, batch: Batch, rng: Array, mode: Mode
    ) -> Guess:
        for_mask, for_model = jax.random.split(rng)
        way = masking.way(model)
        rows, columns = masking.grid(model, batch, self.patch)
        ratio = masking.RATIO[way] if self.ratio is None else self.ratio
        canvas = masking.canvas(model, batch.inputs["image"])
        keys = example_keys(batch, for_mask, mode)
        hidden = patches.hide(keys, rows * columns, ratio).reshape(-1, rows, columns)
        count = rows * columns - patches.hidden_count(rows * columns, ratio)
        how: dict[str, Any] = {"rng": for_model, "mode": mode}
        own, patch = variables.params["strategy"], canvas.shape[1] // rows
        if way == "painted":
            painted = patches.blank(canvas, _pixels(hidden, patch, canvas))
            batch = batch._replace(inputs={"image": painted}, frozen=None)
            features, body = model.features(variables, batch, **how)
        else:
            features, body = model.visible(variables, batch, ~hidden, count=count, **how)
        if way == "tokens":
            predicted = token_decoder.apply(
                own, masking.tokens(model, features), hidden, count=count
            )
        else:
            unseen = hidden if way == "maps" else None
            drawn = decoder.apply(own, masking.maps(model, features), canvas.shape, hidden=unseen)
            predicted = patches.cut(drawn, patch)
        state = {**variables.state, "backbone": body}
        return Guess(canvas, hidden, predicted, batch.inputs, features, state)


def _pixels(hidden: Array, patch: int, canvas: Array) -> Array:
    return patches.spread(hidden.reshape(len(hidden), -1), patch, canvas.shape[1:3])
