"""Inpainting: what is in the hole, going by what is around it? No labels.

A block of every picture is painted over and a light decoder on the deepest map draws it (Pathak et
al. 2016, context encoders, arXiv:1604.07379). The paper's reconstruction loss alone: without its
adversarial term, and without the ring of known pixels that the hole overlaps there, which would
only be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image import ImageInput
from tlx_image.pixels import normalize

from tlx.errors import ConfigError, listed
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import (
    Batch,
    Constants,
    FeatureSpec,
    Forward,
    Mode,
    NormPolicy,
    Params,
    Variables,
    unlabelled,
)
from tlx_strategies import decoder, label_free, patches
from tlx_strategies.example_keys import example_keys


class Holed(NamedTuple):
    """Pictures with a hole, all (B,...): `original` and `seen` (B,H,W,C), `hidden` (B,H,W,1) True
    in the hole, `contrast` (B,1,1,1) by which the hole differs from what it is painted with."""

    original: Array
    seen: Array
    hidden: Array
    contrast: Array


@final
@dataclass(frozen=True)
class Inpainting:
    """Train backbone and decoder to draw a block of a picture from the rest.

    The hole is painted with the mean colour of the rest. What is drawn is the difference from that
    colour, in units of its own root mean square over the hole, and the loss is the squared error
    in the hole: it is 1 for guessing the mean colour, in every picture.

    Args:
        side: sides of the hole as a share of the picture's, between 0 and 1; 0.5 hides a quarter.
        place: where the hole is: 'random', another place every time, or 'centre'.
        width: channels of the decoder.
        norm: what batch norm does: 'train' follows the statistics of pictures with holes (which
            fine-tuning with 'train' replaces), 'frozen' keeps those the run started with.
    """

    side: float = 0.5
    place: Literal["random", "centre"] = "random"
    width: int = 128
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not 0 < self.side < 1:
            raise ConfigError(
                f"side is the hole's side as a share of the picture's, between 0 and 1, not "
                f"{self.side}."
            )
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, not {self.width}.")

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The best on validation: this task can be learnt by heart."""
        return "best"

    def trivial(self, batch_size: int) -> float:
        """1: the mean colour, and nothing else."""
        return 1.0

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The decoder. Raises ConfigError for a backbone without a feature map."""
        numbers = jax.eval_shape(model.init, rng, batch)
        features, _ = jax.eval_shape(
            lambda numbers: model.features(numbers, batch, rng=rng, mode="eval"), numbers
        )
        maps = [features[_deepest_map(model.backbone.features)]]
        shape = batch.inputs["image"].shape
        own = decoder.init(rng, maps, shape, width=self.width, depth=1, masked=False)
        return Variables(own, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head, which would stay random."""
        (phase,) = label_free.whole("inpainting", model, steps, self.forward)
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
        """Pictures with a hole through the backbone and the decoder. `inputs` are the pictures
        with their hole; there are no outputs."""
        for_hole, for_model = jax.random.split(rng)
        holed = self.holed(batch, rng=for_hole, mode=mode)
        fed = batch._replace(inputs={"image": holed.seen}, frozen=None)
        features, body = model.features(variables, fed, rng=for_model, mode=mode)
        drawn = _drawn(model, variables.params, features, holed)
        target = (holed.original - holed.seen) / holed.contrast
        error = jnp.where(holed.hidden, jnp.square(drawn - target), 0).sum((1, 2, 3))
        loss = error / (holed.hidden.sum((1, 2, 3)) * drawn.shape[-1])
        return Forward(loss, fed.inputs, features, None, {**variables.state, "backbone": body})

    def holed(self, batch: Batch, *, rng: Array, mode: Mode) -> Holed:
        """The pictures of a batch, each with a hole."""
        image = normalize(ImageInput(), batch.inputs["image"])
        size = image.shape[1:3]
        block = [min(max(round(self.side * length), 1), length - 1) for length in size]

        def hide(key: Array) -> Array:
            inside = []
            for length, within, one in zip(size, block, jax.random.split(key), strict=True):
                first = (length - within) // 2
                if self.place == "random":
                    first = jax.random.randint(one, (), 0, length - within + 1)
                places = jnp.arange(length)
                inside.append((places >= first) & (places < first + within))
            return (inside[0][:, None] & inside[1])[..., None]

        hidden = jax.vmap(hide)(example_keys(batch, rng, mode))
        seen = patches.blank(image, hidden)
        square = jnp.square(image - seen).sum((1, 2, 3), keepdims=True)
        contrast = jnp.sqrt(square / (block[0] * block[1] * image.shape[-1]) + 1e-6)
        return Holed(image, seen, hidden, contrast)

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures, with their hole, and with what was drawn into it, which has the hole's own
        contrast."""
        holed = self.holed(batch, rng=rng, mode="train")
        fed = unlabelled({"image": holed.seen})
        features, _ = model.features(variables, fed, rng=rng, mode="eval")
        drawn = _drawn(model, variables.params, features, holed) * holed.contrast
        filled = jnp.clip(jnp.where(holed.hidden, holed.seen + drawn, holed.seen), 0, 1)
        return {"original": holed.original, "seen": holed.seen, "filled in": filled}


def _drawn(model: Model, params: Params, features: Mapping[str, Array], holed: Holed) -> Array:
    """What the decoder says (B,H,W,C), in units of `contrast` from the mean colour."""
    maps = [features[_deepest_map(model.backbone.features)]]
    return decoder.apply(params["strategy"], maps, holed.original.shape)


def _deepest_map(specs: tuple[FeatureSpec, ...]) -> str:
    maps = [spec.name for spec in specs if spec.kind == "map"]
    if not maps:
        raise ConfigError(
            f"The strategy 'inpainting' draws pictures from a feature map and this backbone has "
            f"none. Features: {listed(spec.name for spec in specs)}."
        )
    return maps[-1]
