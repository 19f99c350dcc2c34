"""Attention transfer: the network looks at the same places of a picture as the source does.

Where a map has much energy, whichever channels carry it, the network attends. Only this picture
of positions is compared, so source and target may differ in channels and depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError, listed
from tlx.types import Features
from tlx_divergences.named import feature
from tlx_divergences.pairing import on_one_grid, pairs


@final
@dataclass(frozen=True)
class AttentionTransfer:
    """½ Σ_j ‖ Q_j/‖Q_j‖ − Q⁰_j/‖Q⁰_j‖ ‖ with Q = vec(Σ_c A_c²): a sum over the maps, of 2-norms
    over positions, mean per example.

    A are the current maps and A⁰ the source's of the same pictures. Times the run's weight β this
    is the second term of equation 2 of Zagoruyko and Komodakis 2017 (arXiv:1612.03928, section
    3.1) with p = 2, a norm that is not squared: each map adds between 0 and 1/√2. The authors'
    code has the mean over positions of the squared difference instead, hence its β of 1000. Maps
    on different grids are interpolated to the smaller one, as the paper suggests; a map that is
    zero everywhere attends nowhere, Q/‖Q‖ = 0.

    Args:
        maps: names of the features (B,h,w,C), or tokens (B,T,C); by default all maps that the
            backbone has.
        source_maps: their names in the source, in the same order; by default the same.
    """

    maps: tuple[str, ...] = ()
    source_maps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names without a counterpart."""
        pairs(self.maps, self.source_maps, "attention_transfer")

    def __call__(self, *, features: Features, source_features: Features) -> Array:
        """A scalar; 0 at the source. Raises ConfigError for a feature that is missing, has no
        positions, or tokens of another number in the source."""
        total = jnp.zeros(())
        for name, other in pairs(self._maps(features), self.source_maps, "attention_transfer"):
            now = _attention(feature(features, name, "attention_transfer"), name)
            then = feature(source_features, other, "attention_transfer", " of the source")
            now, then = on_one_grid(now, _attention(then, other), name, "attention_transfer")
            square = jnp.square(_unit(now) - _unit(then)).sum(tuple(range(1, now.ndim)))
            # The root has no slope where both attend alike: 0 is one of its subgradients there.
            apart = jnp.where(square > 0, square, 1)
            total = total + jnp.where(square > 0, jnp.sqrt(apart), 0).mean() / 2
        return total

    def _maps(self, features: Features) -> tuple[str, ...]:
        maps = self.maps or tuple(sorted(n for n, value in features.items() if value.ndim == 4))
        if not maps:
            raise ConfigError(
                f"attention_transfer compares maps (B,h,w,C) and the backbone has none. Name "
                f"tokens in `maps`. Features: {listed(features)}."
            )
        return maps


def _attention(activation: Array, name: str) -> Array:
    """Q before it is a vector, (B,h,w,1) or (B,T,1), relative to its largest value."""
    if activation.ndim < 3:
        raise ConfigError(
            f"attention_transfer compares positions, and {name!r} has none: it is "
            f"{activation.shape}. Choose a map (B,h,w,C) or tokens (B,T,C)."
        )
    wide = activation.astype(jnp.promote_types(activation.dtype, "float32"))
    energy = jnp.square(wide).sum(-1, keepdims=True)
    # The length is divided out later; without this a square of squares leaves float32.
    top = energy.max(tuple(range(1, energy.ndim)), keepdims=True)
    top = jnp.where(top >= jnp.finfo(energy.dtype).tiny, top, 1)
    return energy / jax.lax.stop_gradient(top)


def _unit(energy: Array) -> Array:
    """Of length 1 per example; zeros stay zeros. The largest value is 1, so no length is small."""
    length = jnp.square(energy).sum(tuple(range(1, energy.ndim)), keepdims=True)
    return energy * jax.lax.rsqrt(jnp.maximum(length, 1e-12))
