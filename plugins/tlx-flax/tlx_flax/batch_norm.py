"""Batch norm over the channels of a map (Ioffe and Szegedy 2015), as PyTorch's ResNets have it.

The same attribute `use_running_average` as Flax's, with two differences: the running variance is
the unbiased one, and Flax's writes its statistics in a way whose tracing takes time quadratic in
the size of the network, 5 of the 6 seconds for a ResNet-152. It can also choose for each channel
at random which statistics to normalise by (Kou et al. 2020, 'Stochastic Normalization', NeurIPS).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from tlx.backbones.wrapping import switches
from tlx.types import Mode
from tlx_flax.nnx_backbone import MODES
from tlx_flax.visible import Visible, hidden_as_zero, visible_share

MOMENTUM = 0.9
"""The share of the running statistics that a step keeps; PyTorch calls its complement so."""
EPSILON = 1e-5
BATCH_SHARE = 0.5
"""How often a channel goes by the batch in mode 'stochastic'; p in the paper."""
_STOCHASTIC: Mapping[Mode, Mapping[str, Any]] = {
    **{mode: {**values, "stochastic": False} for mode, values in MODES.items()},
    "stochastic": {**MODES["train"], "stochastic": True},
}
NORM_MODES = switches(_STOCHASTIC)
"""What the modes set in a network whose norms are all of this kind."""


class BatchNorm(nnx.Module):
    """Normalises (B,H,W,C) by the batch, or by running statistics if `use_running_average`.

    For n values a channel, a batch is normalised by its biased variance, and the running variance
    takes up the unbiased one, larger by n/(n-1), so that training goes on as it would in PyTorch.
    Statistics are computed in float32.

    If `stochastic`, every pass draws for each channel whether it is normalised by the batch or by
    the running statistics as they were before the pass. The gradient takes the latter as constants,
    and they move as ever. The draw is that of `key`: who runs the module puts another one there for
    each pass and layer.

    Given what is visible, it knows of no other positions and returns 0 for them."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        # Not from `rngs`: that would give the layers behind it other initial weights.
        self.key = nnx.RngKey(jax.random.key(0), tag="norm")
        self.use_running_average = False
        self.stochastic = False

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,H,W,C) to (B,H,W,C)."""
        mean, var = self.mean.get_value(), self.var.get_value()
        if not self.use_running_average:
            wide = hidden_as_zero(x.astype(jnp.float32), visible)
            old_mean, old_var = mean, var
            mean, square = wide.mean((0, 1, 2)), (wide * wide).mean((0, 1, 2))
            if visible is not None:  # hidden zeros were counted
                mean, square = mean / visible_share(visible), square / visible_share(visible)
            # One pass over the map; rounding must not make the difference negative.
            var = jnp.maximum(square - mean * mean, 0)
            self.mean.set_value(MOMENTUM * old_mean + (1 - MOMENTUM) * mean)
            n = x.size // x.shape[-1] * visible_share(visible)
            unbiased = var * (n / max(n - 1, 1))
            self.var.set_value(MOMENTUM * old_var + (1 - MOMENTUM) * unbiased)
            if self.stochastic:
                batch = jax.random.bernoulli(self.key.get_value(), BATCH_SHARE, mean.shape)
                mean, var = jnp.where(batch, mean, old_mean), jnp.where(batch, var, old_var)
        factor = lax.rsqrt(var + EPSILON) * self.scale.get_value()
        y = ((x - mean) * factor + self.bias.get_value()).astype(x.dtype)
        return hidden_as_zero(y, visible)
