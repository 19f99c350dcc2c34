"""L1: the sum of absolute distances of the weights from the source's.

The L1-SP of its paper: the pull towards the source is as strong near it as far away, so few
weights leave it far and many stay close, where L2-SP lets all of them leave a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array

from tlx.types import Params
from tlx_divergences.squares import summed
from tlx_divergences.starting_point import checked_head, counted, moved, new_layers


@final
@dataclass(frozen=True)
class L1:
    """Σ |w − w⁰| + head · ½ ‖w_new‖², as a sum over parameters.

    w are the backbone's parameters, w⁰ the source's (not 0: this is L1-SP, arXiv:1802.01483,
    section 3), w_new the head's, which decay by squares there, too. Where a weight is the
    source's, the gradient is 0, one of its subgradients; a step of gradient descent goes past the
    source by up to rate · weight instead of landing on it.

    Args:
        head: weight of the second term relative to the first; 0 leaves the head free.
        norms_and_biases: count leaves with a single axis, too: biases, norm scales and offsets.
    """

    head: float = 0.0
    norms_and_biases: bool = True

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        checked_head(self.head)

    def __call__(self, *, params: Params, head_params: Params, source_params: Params) -> Array:
        """A scalar; 0 at the source (with `head` 0). Raises ConfigError for a weight on the head
        of a model that has none."""
        held = counted(moved(params, source_params), self.norms_and_biases)
        decay = new_layers(self.head, head_params, "l1", self.norms_and_biases)
        return summed(_absolute, held) + decay


def _absolute(x: Array) -> Array:
    return x * jnp.sign(x)  # whose gradient at 0 is 0; that of jnp.abs is 1 there
