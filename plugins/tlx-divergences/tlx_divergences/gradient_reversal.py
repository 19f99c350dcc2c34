"""Gradient reversal: a function that changes nothing on the way forward and the gradient's sign on
the way back.

What lies above it learns to lower a loss, and what lies below it to raise the same loss, in one
backward pass (Ganin and Lempitsky 2015, arXiv:1409.7495, section 3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_vjp
def reversed_gradient(x: Array, strength: Array) -> Array:
    """`x`; its gradient is −`strength` times the one that arrives, and `strength` gets none."""
    return x


def _forward(x: Array, strength: Array) -> tuple[Array, Array]:
    return x, strength


def _backward(strength: Array, slope: Array) -> tuple[Array, Array]:
    return (-strength * slope).astype(slope.dtype), jnp.zeros_like(strength)


reversed_gradient.defvjp(_forward, _backward)
