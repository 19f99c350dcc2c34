"""A classifier that has to tell which of some known changes was made to a picture.

What pretext tasks share whose answer is a class: linear layers on what the network says of a
picture as a whole, and the cross-entropy. It is thrown away after pre-training.
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import Params


def init(rng: Array, *widths: int) -> Params:
    """Linear layers `dense1`, `dense2`, ... from each of the widths to the next."""
    lecun = jax.nn.initializers.lecun_normal()
    keys = jax.random.split(rng, len(widths) - 1)
    return {
        f"dense{number}": {"kernel": lecun(key, sides), "bias": jnp.zeros(sides[1])}
        for number, (key, sides) in enumerate(zip(keys, pairwise(widths), strict=True), 1)
    }


def apply(params: Params, x: Array) -> Array:
    """(N,D) -> logits (N,K), with a ReLU between layers."""
    for number in range(1, len(params) + 1):
        layer = params[f"dense{number}"]
        x = x @ layer["kernel"] + layer["bias"]
        x = jax.nn.relu(x) if number < len(params) else x
    return x
