"""Features of two networks side by side.

A divergence may compare features that have different names in the two networks, and maps on
different grids; this finds the partner of a name and lays two maps on one grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx_divergences.named import feature


def pairs(
    names: Sequence[str], source_names: Sequence[str], divergence: str
) -> tuple[tuple[str, str], ...]:
    """(name here, name in the source) of each, the same name where `source_names` is empty.
    ConfigError where there are fewer or more of these."""
    if source_names and len(source_names) != len(names):
        raise ConfigError(
            f"{divergence} compares {len(names)} features with {len(source_names)} of the source. "
            f"Name one there for each one here, in the same order, or none for the same names."
        )
    return tuple(zip(names, source_names or names, strict=True))


def channels(model: Model, name: str, divergence: str, where: str = "") -> int:
    """How many channels a feature of the model's backbone has; `where` and ConfigError as for
    `named.feature`."""
    specs: Any = {spec.name: spec for spec in model.backbone.features}
    spec: Any = feature(specs, name, divergence, where)
    return spec.channels


def on_one_grid(now: Array, then: Array, name: str, divergence: str) -> tuple[Array, Array]:
    """Two features at the same positions; of two maps (B,h,w,.) the larger is interpolated
    linearly, and smoothed first, to the grid of the smaller. ConfigError for other shapes that
    differ in more than channels."""
    if now.shape[:-1] == then.shape[:-1]:
        return now, then
    if now.ndim != 4 or then.ndim != 4 or now.shape[0] != then.shape[0]:
        raise ConfigError(
            f"{divergence} compares {name!r} position by position, and it is {now.shape} here and "
            f"{then.shape} in the source. Only maps (B,h,w,C) can be brought to one grid; choose "
            f"features with the same positions."
        )
    grid = tuple(min(sides) for sides in zip(now.shape[1:3], then.shape[1:3], strict=True))
    fitted = [
        jax.image.resize(x, (x.shape[0], *grid, x.shape[3]), "linear", antialias=True)
        for x in (now, then)
    ]
    return fitted[0], fitted[1]
