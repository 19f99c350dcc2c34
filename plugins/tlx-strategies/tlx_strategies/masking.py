"""How a network is kept from seeing: the three ways of masked prediction, and their grids.

Maps of a network that hides layer by layer, tokens of one that gets no more than the visible ones,
or paint over the input for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image import ImageInput
from tlx_image.model_images import image_input
from tlx_image.pixels import normalize

from tlx.errors import ConfigError, DataError, listed
from tlx.model import Model
from tlx.types import Batch, Features

Way: TypeAlias = Literal["maps", "tokens", "painted"]
RATIO: Mapping[Way, float] = {"maps": 0.6, "tokens": 0.75, "painted": 0.6}
"""The share that is hidden: SparK (arXiv:2301.03580) and MAE (arXiv:2111.06377), section 4.1."""
PATCH = 8
"""Side of a painted patch in pixels, where none is given."""


def way(model: Model) -> Way:
    """The way for this network. Raises ConfigError where it has neither a map nor tokens that can
    be masked."""
    specs = model.backbone.features
    kinds = {spec.kind for spec in specs}
    if "map" in kinds:
        return "painted" if model.cell is None else "maps"
    if "tokens" in kinds and model.cell is not None:
        return "tokens"
    raise ConfigError(
        f"The strategy 'masked' draws pictures from a feature map, or from the tokens of a network "
        f"that can be masked, and this backbone has none. Features: "
        f"{listed(spec.name for spec in specs)}."
    )


def canvas(model: Model, image: Array) -> Array:
    """The pictures (B,H,W,C) that are to be predicted: as the network sees them, or as they come
    (in 0..1) where the input is painted."""
    plain = ImageInput(channels=image.shape[-1], mean=(0.0,), std=(1.0,))
    return normalize(plain if model.cell is None else image_input(model), image)


def grid(model: Model, batch: Batch, patch: int | None) -> tuple[int, int]:
    """Rows and columns of patches on the canvas, `patch` being the strategy's option.

    Raises DataError for pictures that are not divided into several, ConfigError for a `patch` that
    is not this network's."""
    given, cell = batch.inputs["image"].shape[1:3], model.cell
    if cell is None:
        patch = patch or PATCH
        fits = [p for p in range(1, max(given)) if not any(side % p for side in given)]
        if patch not in fits:
            raise DataError(
                f"Patches of {patch} pixels do not divide pictures of {given[0]} x {given[1]} "
                f"into several. Set the strategy's `patch` to one of: {listed(map(str, fits))}."
            )
        return given[0] // patch, given[1] // patch
    if patch not in (None, cell):
        raise ConfigError(
            f"patch = {patch}, but this network is masked in cells of {cell} x {cell} pixels of "
            f"its input. Leave `patch` out."
        )
    tall, wide = image_input(model).size or given
    # A side that the cell does not divide is the network's to refuse.
    if (tall // cell) * (wide // cell) < 2:
        raise DataError(
            f"This network is masked in cells of {cell} x {cell} pixels, and a picture of {tall} x "
            f"{wide} is not divided into several: nothing would be left to predict from. Take "
            f"larger pictures, or a network that scales them down less (a ResNet for pictures of "
            f'32 x 32, or stem = "small").'
        )
    return tall // cell, wide // cell


def shapes(model: Model, batch: Batch, cells: tuple[int, int]) -> Mapping[str, Any]:
    """The features of pictures of which nothing is hidden, as abstract arrays; the network may
    refuse them."""
    image, count = batch.inputs["image"], cells[0] * cells[1]

    def run(rng: Array) -> Features:
        how: dict[str, Any] = {"rng": rng, "mode": "eval"}
        numbers = model.init(rng, batch)
        if model.cell is None:
            return model.features(numbers, batch, **how)[0]
        every = jnp.ones((len(image), *cells), bool)
        return model.visible(numbers, batch, every, count=count, **how)[0]

    return jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)))


def maps(model: Model, features: Mapping[str, Any]) -> tuple[Any, ...]:
    """The deepest map of every size, shallow to deep; the deepest of all where the input is
    painted, since shallow ones copy the paint."""
    found = [features[spec.name] for spec in model.backbone.features if spec.kind == "map"]
    by_size = {feature.shape[1:3]: feature for feature in found}
    return tuple(by_size.values()) if model.cell is not None else (found[-1],)


def tokens(model: Model, features: Mapping[str, Any]) -> Any:
    """The deepest tokens (B,T,D)."""
    return [features[s.name] for s in model.backbone.features if s.kind == "tokens"][-1]
