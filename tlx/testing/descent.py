"""A few steps of training: does a backbone learn?

The kit's checks differentiate once. Here parameters, running statistics and random keys move on
together, as they do in a run, but with nothing of a run around them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlx.protocols import Backbone
from tlx.testing.claims import claim
from tlx.testing.compiling import quick_jit
from tlx.types import Variables


def descends(backbone: Backbone, variables: Variables, x: Any, steps: int = 30) -> None:
    """ContractError unless training in mode 'train' brings the deepest feature of `x` (B,H,W,C)
    closer to one: the squared distance of the last five steps lies below that of the first."""
    deepest, tx = backbone.features[-1].name, optax.adam(1e-2)

    @quick_jit
    def step(variables: Variables, opt: Any, key: Any) -> Any:
        def loss(params: Any) -> Any:
            features, state = backbone.apply(params, variables.state, x, rng=key, mode="train")
            return jnp.mean((features[deepest] - 1) ** 2), state

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(variables.params)
        updates, opt = tx.update(gradient, opt)
        return Variables(optax.apply_updates(variables.params, updates), state), opt, value

    opt, losses = tx.init(variables.params), []
    for number in range(steps):
        variables, opt, value = step(variables, opt, jax.random.key(number))
        losses.append(float(value))
    first, last = np.mean(losses[:5]), np.mean(losses[-5:])
    claim(last < first, f"{steps} steps of training moved the loss from {first:.4g} to {last:.4g}.")
