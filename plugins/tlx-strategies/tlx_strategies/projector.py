"""A projector: the small network between features and the loss that is thrown away afterwards.

Dense layers without a bias, and between two of them batch norm and relu (Chen et al. 2020, SimCLR,
arXiv:2002.05709, sections 2.1 and 4.2: features before it are better than those behind). While
training it normalises by the batch; running statistics are kept for evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Mode, Params, State, Variables
from tlx_strategies.batch_moments import moments

MOMENTUM = 0.9
"""The share of the running statistics that a step keeps."""
EPSILON = 1e-5


def check_widths(option: str, widths: Sequence[int], like: Sequence[int] | None = None) -> None:
    """Raise ConfigError for layers that are no projector, or that end otherwise than `like`."""
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(
            f"{option} = {list(widths)} is no projector: it lists the widths of two or more dense "
            f"layers, the last one being what the loss sees, such as [512, 128]."
        )
    if like is not None and widths[-1] != like[-1]:
        raise ConfigError(
            f"{option} = {list(widths)} must end with {like[-1]}, as what it is held against does."
        )


def init(rng: Array, channels: int, widths: Sequence[int]) -> Variables:
    """Layers for features (...,channels) with outputs of these widths."""
    params, state = {}, {}
    he = jax.nn.initializers.he_normal()
    for number, key in enumerate(jax.random.split(rng, len(widths))):
        wide = widths[number]
        params[f"dense{number}"] = {"kernel": he(key, (channels, wide))}
        if number < len(widths) - 1:
            params[f"norm{number}"] = {"scale": jnp.ones(wide), "bias": jnp.zeros(wide)}
            state[f"norm{number}"] = {"mean": jnp.zeros(wide), "var": jnp.ones(wide)}
        channels = wide
    return Variables(params, state)


def apply(
    params: Params, state: State, x: Array, weight: Array, *, mode: Mode
) -> tuple[Array, State]:
    """(...,C) to (...,D), and the running statistics, moved unless mode is 'eval'.

    Statistics are over all leading axes, without the rows whose `weight` (broadcast to them) is
    0."""
    new = {}
    for number in range(len(state)):
        x = x @ params[f"dense{number}"]["kernel"]
        name = f"norm{number}"
        x, new[name] = _norm(params[name], state[name], x, weight, mode)
        x = jax.nn.relu(x)
    return x @ params[f"dense{len(state)}"]["kernel"], new


def _norm(params: Params, state: State, x: Array, weight: Array, mode: Mode) -> tuple[Array, State]:
    mean, var = state["mean"], state["var"]
    if mode != "eval":
        batch = moments(x, weight)
        mean, var = batch.mean, batch.var
        seen = {"mean": mean, "var": batch.unbiased}
        state = {key: MOMENTUM * state[key] + (1 - MOMENTUM) * seen[key] for key in seen}
    factor = jax.lax.rsqrt(var + EPSILON) * params["scale"]
    return (x - mean) * factor + params["bias"], state
