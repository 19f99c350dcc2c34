"""How much of a mixed picture's label is its own: what mixup and CutMix draw alike.

From a Beta distribution that is symmetric: the smaller `alpha`, the nearer to one of the two.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx_data.sometimes import check_probability


def check_mixing(name: str, alpha: float, probability: float) -> None:
    """Raise ConfigError for what `share_of_label` cannot take, of the augmentation `name`."""
    check_probability(name, probability)
    if not alpha > 0:
        raise ConfigError(f"{name}: alpha = {alpha} is not above 0; to mix nothing, leave it out.")


def share_of_label(rng: Array, alpha: float, probability: float) -> Array:
    """From Beta(`alpha`, `alpha`) with the given probability, else 1; a scalar."""
    for_share, for_chance = jax.random.split(rng)
    share = jax.random.beta(for_share, alpha, alpha)
    return jnp.where(jax.random.bernoulli(for_chance, probability), share, 1)
