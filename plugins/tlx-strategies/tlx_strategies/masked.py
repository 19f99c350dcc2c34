"""Masked pre-training: hide patches of a picture and predict them from the rest. No labels.

The simple form for any backbone with a feature map: hidden patches are painted over with the mean
of what is visible, and a light decoder on the deepest map draws the picture. After the denoising
and masked autoencoders (Pathak et al. 2016, arXiv:1604.07379; He et al. 2022, arXiv:2111.06377;
Xie et al. 2022, arXiv:2111.09886).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError, DataError, listed
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import (
    Batch,
    Constants,
    Forward,
    Mode,
    NormPolicy,
    Params,
    State,
    Variables,
)
from tlx_strategies import decoder, patches, supervised


@final
@dataclass(frozen=True)
class Masked:
    """Train backbone and decoder to predict hidden patches of raw pictures.

    The loss is the squared error on hidden patches, each normalised to mean 0 and variance 1: a
    network that has learnt nothing is at 1 (lower where patches are flat). Evaluation hides the
    same patches of an example every time.

    Args:
        ratio: share of the patches that is hidden, between 0 and 1.
        patch: side of a patch in pixels of the picture as it comes from the data; it divides
            height and width.
        width: channels of the decoder.
        norm: what batch norm does: 'train' follows the statistics of masked pictures (which
            fine-tuning with 'train' replaces), 'frozen' keeps those the run started with.
    """

    ratio: float = 0.6
    patch: int = 8
    width: int = 128
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not 0 < self.ratio < 1:
            raise ConfigError(
                f"ratio is the share of hidden patches, between 0 and 1, not {self.ratio}."
            )
        if self.patch < 1 or self.width < 1:
            raise ConfigError(f"patch ({self.patch}) and width ({self.width}) must be at least 1.")

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The decoder. Raises DataError for pictures that `patch` does not divide, ConfigError
        for a backbone without a feature map."""
        size = batch["image"].shape[1:3]
        fits = [p for p in range(1, max(size)) if not any(side % p for side in size)]
        if self.patch not in fits:
            raise DataError(
                f"Patches of {self.patch} pixels do not divide pictures of {size[0]} x {size[1]} "
                f"into several. Set the strategy's `patch` to one of: {listed(map(str, fits))}."
            )
        numbers = jax.eval_shape(model.init, rng, batch)
        features, _ = jax.eval_shape(
            lambda params, state: model.features(
                params, state, batch["image"], rng=rng, mode="eval"
            ),
            *numbers,
        )
        feature = features[_deepest_map(model)].shape
        return Variables(decoder.init(rng, feature, batch["image"].shape, self.width), {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head, which would stay random."""
        if model.head is not None:
            raise ConfigError(
                "The strategy 'masked' learns without labels, so a head would stay as it is and "
                'its accuracy would mean nothing. Write head = "none" in the run file.'
            )
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
        params: Params,
        state: State,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        mode: Mode,
        progress: Array,
    ) -> Forward:
        """Masked pictures through the backbone and the decoder. `inputs` are the pictures with
        their hidden patches painted over; there are no outputs."""
        for_mask, for_model = jax.random.split(rng)
        image = batch["image"]
        image = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
        if mode == "eval":  # by the example's own number: the same in any batch, in any run
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch["index"])
        else:
            keys = jax.random.split(for_mask, image.shape[0])
        target = patches.contrast(patches.cut(image, self.patch))
        hidden = patches.hide(keys, target.shape[1], self.ratio)
        seen = patches.blank(image, patches.spread(hidden, self.patch, image.shape[1:3]))
        features, body = model.features(params, state, seen, rng=for_model, mode=mode)
        drawn = decoder.apply(params["strategy"], features[_deepest_map(model)], image.shape)
        loss = patches.hidden_error(patches.cut(drawn, self.patch), target, hidden)
        return Forward(loss, seen, features, None, {**state, "backbone": body})


def _deepest_map(model: Model) -> str:
    maps = [spec.name for spec in model.backbone.features if spec.kind == "map"]
    if not maps:
        raise ConfigError(
            f"The strategy 'masked' draws pictures from a feature map and this backbone has none. "
            f"Features: {listed(spec.name for spec in model.backbone.features)}."
        )
    return maps[-1]
