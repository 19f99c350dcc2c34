"""Memory for time: activations are computed again for the backward pass instead of being kept.

What is kept is what goes from one stage to the next (Chen et al. 2016, arXiv:1604.06174, section
3), so a backward pass holds the activations of one stage at a time. Of a network in one piece the
results of convolutions and products are kept, and norms and activations are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import Array

from tlx.protocols import Backbone, Staged
from tlx.types import Features, Mode, Params, PyTree, State


def rematerialised(
    backbone: Backbone,
    params: Params,
    state: State,
    carry: PyTree,
    *,
    start: int,
    rng: Array,
    mode: Mode,
) -> tuple[Features, State]:
    """The features of the stages from `start` on, and the state after them; `carry` as for
    `Staged`."""
    if not isinstance(backbone, Staged) or len(backbone.stages) == 1:
        return in_one_piece(partial(backbone.apply, mode=mode))(params, state, carry, rng=rng)
    features: Features = {}
    for number in range(start, len(backbone.stages)):
        stage = partial(backbone.apply_stages, start=number, stop=number + 1, mode=mode)
        carry, new, state = jax.checkpoint(stage)(params, state, carry, rng=rng)
        features = {**features, **new}
    return features, state


def in_one_piece(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of which only the results of convolutions and products are kept."""
    return jax.checkpoint(function, policy=_products)


def _products(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in ("conv_general_dilated", "dot_general")
