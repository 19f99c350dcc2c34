"""A feature by its name, or a sentence that says which names there are."""

from __future__ import annotations

from jax import Array

from tlx.errors import ConfigError, did_you_mean, listed
from tlx.types import Features


def feature(features: Features, name: str, divergence: str, where: str = "") -> Array:
    """`features[name]`; `where` is, say, ' of the source'. ConfigError where there is none."""
    if name not in features:
        raise ConfigError(
            f"{divergence} compares the feature {name!r}, which the backbone{where} does not have."
            f"{did_you_mean(name, features)} Features: {listed(features)}."
        )
    return features[name]


def pair(
    features: Features, source_features: Features, name: str, divergence: str
) -> tuple[Array, Array]:
    """A feature here and in the source, of one shape; ConfigError where it has two."""
    now = feature(features, name, divergence)
    then = feature(source_features, name, divergence, " of the source")
    if now.shape != then.shape:
        raise ConfigError(
            f"{divergence} compares {name!r} element by element, and it is {now.shape} here and "
            f"{then.shape} in the source. Choose a feature of the same shape."
        )
    return now, then
