"""From `[optimizer]` to an optax transformation whose hyperparameters are traced.

Learning rate and weight decay are arguments of the update, not constants closed over, so that a
grid of them runs in one compiled program. The schedule restarts with every phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tlx.config import OptimizerConfig, RunConfig
from tlx.types import PyTree


@partial(jax.jit, static_argnums=(0, 2))
def schedule(config: OptimizerConfig, step: Array, steps: int) -> Array:
    """The share (0..1) of the learning rate at a phase's `step` out of `steps`.

    `warmup` is the share of the phase with a linear rise. `one_cycle` (Smith, arXiv:1708.07120)
    rises along a cosine from 1/25 over `warmup` (0.3 if not given), then falls to 1e-4/25."""
    at = jnp.asarray(step, jnp.float32)
    if config.schedule == "one_cycle":
        rise = (config.warmup or 0.3) * steps
        low, end = 1 / 25, 1e-4 / 25
        up = 0.5 * (1 - jnp.cos(jnp.pi * jnp.clip(at / rise, 0, 1)))
        fall = jnp.clip((at - rise) / max(steps - rise, 1.0), 0, 1)
        down = 0.5 * (1 + jnp.cos(jnp.pi * fall))
        return jnp.where(at < rise, low + (1 - low) * up, end + (1 - end) * down)
    rise = config.warmup * steps
    ramp = jnp.minimum(1.0, (at + 1) / rise) if rise >= 1 else jnp.float32(1)
    along = jnp.clip((at - rise) / max(steps - rise, 1.0), 0, 1)
    match config.schedule:
        case "cosine":
            return ramp * 0.5 * (1 + jnp.cos(jnp.pi * along))
        case "linear":
            return ramp * (1 - along)
        case "constant":
            return ramp


def hyperparameters(config: RunConfig, weights: Mapping[str, float], steps: int) -> dict[str, Any]:
    """What a step takes as arguments; `weights` of divergences by name."""
    return {
        "learning_rate": jnp.float32(config.optimizer.learning_rate),
        "weight_decay": jnp.float32(config.optimizer.weight_decay),
        "divergence": {name: jnp.float32(weight) for name, weight in weights.items()},
        "steps": jnp.float32(steps),
    }


def transform(
    config: OptimizerConfig,
    *,
    start: int,
    steps: int,
    multipliers: PyTree,
    decays: PyTree | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The update rule of one phase.

    `start` is the phase's first global step; `multipliers` holds a factor on the learning rate
    per moving leaf. `update` takes `hyper` (`learning_rate`, `weight_decay`) and the global
    `step`. Weight decay goes to the leaves that `decays` says (a bool per moving leaf), without it
    to those of rank 2 and more (no biases, no norms); it joins the gradient for 'sgd' and 'adam'
    and is decoupled for 'adamw' (arXiv:1711.05101)."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    if config.name == "sgd":
        rule = (
            optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
        )
    else:
        rule = optax.scale_by_adam()

    def decayed(updates: PyTree, params: PyTree, decay: Array) -> PyTree:
        chosen = jax.tree.map(lambda p: p.ndim > 1, params) if decays is None else decays
        return jax.tree.map(lambda u, p, d: u + decay * p if d else u, updates, params, chosen)

    def init(params: PyTree) -> Any:
        return clip.init(params), rule.init(params)

    def update(
        updates: PyTree, state: Any, params: PyTree | None = None, *, hyper: Any, step: Array
    ) -> tuple[PyTree, Any]:
        coupled = config.name != "adamw"
        before, after = state
        updates, before = clip.update(updates, before, params)
        if coupled:
            updates = decayed(updates, params, hyper["weight_decay"])
        updates, after = rule.update(updates, after, params)
        if not coupled:
            updates = decayed(updates, params, hyper["weight_decay"])
        rate = hyper["learning_rate"] * schedule(config, step - start, steps)
        return jax.tree.map(lambda u, m: -rate * m * u, updates, multipliers), (before, after)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]
