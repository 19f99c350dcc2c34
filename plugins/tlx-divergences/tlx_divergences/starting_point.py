"""What the penalties of the SP family share: a starting point for what was there, decay for what
is new.

Li, Grandvalet and Davoine 2018 (arXiv:1802.01483, section 3) write them all as a distance of the
backbone from where it started plus ½ ‖w_new‖² of the layers that the source does not have.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Params
from tlx_divergences.squares import half_squares


def checked_head(head: float) -> None:
    """Refuse a negative weight of the new layers."""
    if not head >= 0:
        raise ConfigError(f"head weighs a penalty and must be 0 or more, not {head}.")


def moved(params: Params, source_params: Params) -> Params:
    """w − w⁰, leaf by leaf."""
    return jax.tree.map(lambda w, start: w - start, params, source_params)


def counted(tree: Params, norms_and_biases: bool) -> list[Array]:
    """The leaves, without those of a single axis unless `norms_and_biases`."""
    return [w for w in jax.tree.leaves(tree) if norms_and_biases or w.ndim > 1]


def new_layers(
    head: float, head_params: Params, divergence: str, norms_and_biases: bool = True
) -> Array:
    """head · ½ ‖w_new‖². ConfigError for a weight on the head of a model that has none."""
    if not head > 0:
        return jnp.zeros(())
    if head_params is None:
        raise ConfigError(
            f"{divergence} weighs the head's parameters (head = {head}) and this model has no "
            f"head. Leave out `head`."
        )
    return head * half_squares(counted(head_params, norms_and_biases))
