"""The named features of a wrapped module: measured from its shapes, checked when it runs.

A four-dimensional feature is a map, a three-dimensional one a row of tokens, a two-dimensional
one a vector; its channels are the last axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ContractError, did_you_mean, listed
from tlx.protocols import Backbone
from tlx.types import FeatureKind, Features, FeatureSpec

_KINDS: dict[int, FeatureKind] = {2: "vector", 3: "tokens", 4: "map"}


def unmeasured(names: tuple[str, ...]) -> tuple[FeatureSpec, ...]:
    """Specifications that hold no more than names yet."""
    return tuple(FeatureSpec(name, "vector", 0) for name in names)


def measured(backbone: Backbone) -> tuple[FeatureSpec, ...]:
    """The specifications of a backbone whose own hold no more than names yet.

    It runs abstractly, on a picture of its `inputs.size` (224 x 224 where that is None). Raises
    ContractError where it returns other names, or a feature of another rank."""
    height, width = backbone.inputs.size or (224, 224)

    def run(rng: Array, x: Array) -> Features:
        params, state = backbone.init(rng, x)
        return backbone.apply(params, state, x, rng=rng, mode="eval")[0]

    x = jax.ShapeDtypeStruct((1, height, width, backbone.inputs.channels), jnp.float32)
    shapes = jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)), x)
    return tuple(_spec(name, shapes[name].shape, height) for name, *_ in backbone.features)


def by_name(output: Any, specs: tuple[FeatureSpec, ...]) -> Mapping[str, Any]:
    """What a module returned as a mapping: one array is the one feature."""
    if isinstance(output, Mapping):
        return output
    if len(specs) == 1:
        return {specs[0].name: output}
    raise ContractError(
        f"The module returns a {type(output).__name__} but has the features "
        f"{listed(spec.name for spec in specs)}. Let it return a mapping with these names."
    )


def checked(features: Features, specs: tuple[FeatureSpec, ...]) -> Features:
    """The features, if their names are the ones that were promised; else a ContractError."""
    names = [spec.name for spec in specs]
    for name in names:
        if name not in features:
            raise ContractError(
                f"The module does not return the feature {name!r} that was promised. It returns "
                f"{listed(features)}.{did_you_mean(name, features)}"
            )
    for name in features:
        if name not in names:
            raise ContractError(
                f"The module returns {name!r}, which is not one of its features "
                f"{listed(names)}. Name it there, or do not return it."
            )
    return features


def _spec(name: str, shape: tuple[int, ...], height: int) -> FeatureSpec:
    if len(shape) not in _KINDS:
        raise ContractError(
            f"The feature {name!r} has shape {shape}. A feature is a map (B,h,w,C), "
            "tokens (B,T,C) or a vector (B,C)."
        )
    kind = _KINDS[len(shape)]
    # Padding makes a map a pixel larger or smaller than its stride says, hence the rounding.
    stride = max(1, round(height / shape[1])) if kind == "map" else None
    return FeatureSpec(name, kind, shape[-1], stride)
