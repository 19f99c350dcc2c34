"""A change that is made to some pictures and not to others, by chance.

What augmentations with a `probability` share.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError


def check_probability(name: str, probability: float) -> None:
    """Raise ConfigError for a probability outside of 0 to 1 of the augmentation `name`."""
    if not 0 <= probability <= 1:
        raise ConfigError(f"{name}: probability = {probability} is not between 0 and 1.")


def sometimes(rng: Array, probability: float, changed: Array, image: Array) -> Array:
    """`changed` with the given probability, else `image`; both (H,W,C), or of any one shape."""
    return jnp.where(jax.random.bernoulli(rng, probability), changed, image)
