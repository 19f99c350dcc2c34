"""Targets that lie on the plane of an image go where an augmentation moves the image.

The augmentation says how it moves it, by the key that it moves it with (`Geometric`); several do it
one after the other, as they do to the image. What leaves every pixel in its place moves nothing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
from jax import Array

from tlx.contracts.calls import called
from tlx.contracts.field import Spatial
from tlx.contracts.outside import Geometric
from tlx.types import Batch, DataInfo

SpatialTargets: TypeAlias = tuple[tuple[str, Spatial], ...]
"""Names and fields of targets."""


def spatial_targets(info: DataInfo) -> SpatialTargets:
    """The targets of data that move with an image."""
    named = ((name, info.fields[name]) for name in info.targets if name in info.fields)
    return tuple((name, field) for name, field in named if isinstance(field, Spatial))


def move_targets(
    change: Any, keys: Array, batch: Batch, spatial: SpatialTargets, size: tuple[int, int]
) -> Batch:
    """The batch with its targets where `change` moves images of a `size` (H,W) by `keys` (B,). How
    the host placed them says nothing of it any more."""
    if not isinstance(change, Geometric):
        return batch
    targets = dict(batch.targets)
    for name, field in spatial:
        if name not in targets:  # of a domain nobody knows them
            continue

        def moved(key: Array, arrays: Any, field: Spatial = field) -> Any:
            with called(change, "augmentation", "draw"):
                warp = change.draw(key, size)
            return field.warp(arrays, warp)

        with called(field, "field", "warp"):
            targets[name] = jax.vmap(moved)(keys, targets[name])
    return batch._replace(targets=targets, geometry=None)
