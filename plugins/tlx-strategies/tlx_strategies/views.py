"""Views: several random versions of the same picture, made on the device, in jit.

A view is a picture after a pipeline of augmentations. Which one is drawn hangs on the pass's key
and on nothing else, so a run that is resumed sees the views that it would have seen; in mode 'eval'
it hangs on the example's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias, final

import jax
import jax.numpy as jnp
from jax import Array
from tlx_image import ImageInput
from tlx_image.pixels import normalize

from tlx import registry
from tlx.errors import ConfigError
from tlx.protocols import Augmentation, Mixes
from tlx.types import Batch, Mode
from tlx_strategies.example_keys import example_keys

Pipeline: TypeAlias = tuple[Augmentation, ...]
Steps: TypeAlias = Sequence[str | Mapping[str, Any]]
"""Augmentations by name, or as a table with `name` and options."""
SIDE = 64
"""Pictures with a side below this are small ones: they are not blurred, as they have no fine detail
to lose (Chen et al. 2020, SimCLR, arXiv:2002.05709, appendix B.9)."""


@final
@dataclass(frozen=True)
class Views:
    """One pipeline for each view, for small pictures and for large ones."""

    small: tuple[Pipeline, ...]
    large: tuple[Pipeline, ...]

    def draw(self, batch: Batch, rng: Array, mode: Mode, *, number: int = 0) -> Array:
        """Views (V,B,H,W,3), float 0..1, of the pictures (B,H,W,C) of a batch; a channel alone is
        taken for grey. `number` is that of the first view, where others were drawn before."""
        image = normalize(ImageInput(), batch.inputs["image"])
        pipelines = self.small if min(image.shape[1:3]) < SIDE else self.large
        return _drawn(example_keys(batch, rng, mode), image, number, pipelines=pipelines)

    def shown(self, batch: Batch, rng: Array) -> dict[str, Array]:
        """The pictures of a batch and two views of each, to be looked at."""
        views = jnp.clip(self.draw(batch, rng, "train"), 0, 1)
        original = normalize(ImageInput(), batch.inputs["image"])
        return {"original": original, "first view": views[0], "second view": views[1]}


def recipe(
    scale: tuple[float, float],
    jitter: tuple[float, float, float, float],
    *,
    blur: float = 0.0,
    solarize: float = 0.0,
) -> Steps:
    """What joint-embedding methods do to a picture, in the order in which they do it.

    A part with a share of the area in `scale`, mirrored or not; with probability 0.8 other colours,
    `jitter` being the strengths of brightness, contrast, saturation and hue; grey with probability
    0.2; `blur` and `solarize` are probabilities."""
    names = ("brightness", "contrast", "saturation", "hue")
    steps: list[Mapping[str, Any]] = [
        {"name": "resized_crop", "scale": scale},
        {"name": "flip"},
        {"name": "color_jitter", "probability": 0.8, **dict(zip(names, jitter, strict=True))},
        {"name": "grayscale", "probability": 0.2},
    ]
    steps += [{"name": "blur", "probability": blur}] if blur else []
    steps += [{"name": "solarize", "probability": solarize}] if solarize else []
    return tuple(steps)


SMALL = (recipe((0.2, 1.0), (0.4, 0.4, 0.2, 0.1)),) * 2
LARGE = (
    recipe((0.08, 1.0), (0.4, 0.4, 0.2, 0.1), blur=1.0),
    recipe((0.08, 1.0), (0.4, 0.4, 0.2, 0.1), blur=0.1, solarize=0.2),
)
"""The views of BYOL (Grill et al. 2020, arXiv:2006.07733, appendix B, table 6), which others have
taken over."""


def two_views(
    views: Steps | None, second_view: Steps | None, small: Sequence[Steps], large: Sequence[Steps]
) -> Views:
    """A pair of views as a run file says, else as the method's own recipes do for `small` and for
    `large` pictures. `views` is for both, `second_view` for the second one alone.

    Raises PluginError for an augmentation that is not installed, ConfigError for options that it
    does not take."""

    def pair(own: Sequence[Steps]) -> tuple[Pipeline, ...]:
        first = own[0] if views is None else views
        second = (own[1] if views is None else views) if second_view is None else second_view
        one = pipeline(first, "strategy.views")
        return one, one if second == first else pipeline(second, "strategy.second_view")

    return Views(pair(small), pair(large))


def pipeline(steps: Steps, where: str) -> Pipeline:
    """The augmentations that steps name, built; `where` is their dotted path in the run file."""
    return tuple(_augmentation(step, f"{where}.{number}") for number, step in enumerate(steps))


def _augmentation(step: str | Mapping[str, Any], where: str) -> Augmentation:
    table = {"name": step} if isinstance(step, str) else dict(step)
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(
            f"{where}: an augmentation is its name or a table with the key `name`, such as "
            f'"flip" or {{ name = "flip", probability = 0.5 }}, not {step!r}.'
        )
    found = registry.build("augmentations", name, table, where=where)
    if isinstance(found, Mixes):
        raise ConfigError(
            f"{where}: {name!r} makes one picture of two, and a view is of one. Leave it out."
        )
    return found


# Compiled into whatever calls it; traced once for all of them.
@partial(jax.jit, static_argnames="pipelines")
def _drawn(
    keys: Array, image: Array, first: Array | int, *, pipelines: tuple[Pipeline, ...]
) -> Array:
    found: list[Array] = []
    for steps, alike in groupby(pipelines):
        numbers = first + len(found) + jnp.arange(len(tuple(alike)))

        def view(number: Array, key: Array, picture: Array, steps: Pipeline = steps) -> Array:
            key = jax.random.fold_in(key, number)
            for place, change in enumerate(steps):
                picture = change(jax.random.fold_in(key, place), picture)
            return picture

        each = jax.vmap(view, (None, 0, 0))
        found += list(jax.vmap(each, (0, None, None))(numbers, keys, image))
    return jnp.stack(found)
