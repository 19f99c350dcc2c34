"""The named features of a module: measured from its shapes, and checked when it runs.

A four-dimensional feature is a map, a three-dimensional one a row of tokens, a two-dimensional
one a vector; its channels are the last axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlx.errors import ContractError, did_you_mean, listed
from tlx.types import FeatureKind, Features, FeatureSpec

_KINDS: dict[int, FeatureKind] = {2: "vector", 3: "tokens", 4: "map"}


def measured(names: tuple[str, ...], output: Any, height: int) -> tuple[FeatureSpec, ...]:
    """Specifications of what a module returned, abstractly, for pictures `height` pixels high.

    `output` is a mapping of features or, for a single name, the feature itself. Raises
    ContractError for a name that is missing and for a feature of another rank."""
    if not isinstance(output, Mapping):
        output = {names[0]: output}
    _same_names(output, names)
    return tuple(_spec(name, tuple(output[name].shape), height) for name in names)


def checked(features: Features, specs: tuple[FeatureSpec, ...]) -> Features:
    """The features, if they are the ones that were promised; else a ContractError."""
    _same_names(features, tuple(spec.name for spec in specs))
    return features


def _spec(name: str, shape: tuple[int, ...], height: int) -> FeatureSpec:
    if len(shape) not in _KINDS:
        raise ContractError(
            f"The feature {name!r} has shape {shape}. A feature is a map (B,h,w,C), "
            "tokens (B,T,C) or a vector (B,C)."
        )
    kind = _KINDS[len(shape)]
    # Valid padding makes a map a little smaller than its stride says, hence the rounding.
    stride = max(1, round(height / shape[1])) if kind == "map" else None
    return FeatureSpec(name, kind, shape[-1], stride)


def _same_names(features: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in features:
            raise ContractError(
                f"The module does not return the feature {name!r} that was promised; it returns "
                f"{listed(features)}.{did_you_mean(name, features)}"
            )
    for name in features:
        if name not in names:
            raise ContractError(
                f"The module returns {name!r}, which is not among its features "
                f"{listed(names)}. Add it to them or do not return it."
            )
