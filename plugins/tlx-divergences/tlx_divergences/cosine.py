"""Cosine: the angle by which the kernels have turned away from the source's.

A kernel in front of a normalisation computes the same at any length, so only its direction says
how far it has moved: this distance sees that and nothing else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Params


def cosine(*, params: Params, source_params: Params) -> Array:
    """1 − ⟨w, w⁰⟩ / (‖w‖ ‖w⁰‖) for each kernel of the backbone, mean over kernels; 0 at the source
    and at every positive multiple of it, 2 at the opposite.

    A kernel is a leaf with two or more axes, taken as one vector; biases and the scales and
    offsets of norms are left free, as is the length of a kernel. It is computed as
    ½ ‖w/‖w‖ − w⁰/‖w⁰‖‖², which is the same number without the cancellation near 0. A kernel that
    is zero has no direction: where the source's is, it adds 0, and where only the current one is,
    it adds 1; both without a gradient. Raises ConfigError for a backbone without kernels.
    """
    pairs = [
        (now, then)
        for now, then in zip(jax.tree.leaves(params), jax.tree.leaves(source_params), strict=True)
        if now.ndim > 1
    ]
    if not pairs:
        raise ConfigError(
            "cosine compares the directions of kernels, leaves with two or more axes, and this "
            "backbone has none. Hold its weights with l2_sp instead."
        )
    total = jnp.zeros(())
    for now, then in pairs:
        (here, moves), (there, directed) = _direction(now), _direction(then)
        turned = jnp.sum(jnp.square(here - there)) / 2
        total = total + jnp.where(directed, jnp.where(moves, turned, 1.0), 0.0)
    return total / len(pairs)


def _direction(kernel: Array) -> tuple[Array, Array]:
    """(w / ‖w‖ in float32 or better, True), and (0, False) for a kernel of zeros."""
    w = kernel.astype(jnp.promote_types(kernel.dtype, "float32"))
    square = jnp.sum(jnp.square(w))
    directed = square > 0
    return jnp.where(directed, w * jax.lax.rsqrt(jnp.where(directed, square, 1.0)), 0.0), directed
