"""The layers of a Vision Transformer: embedded patches, attention, and blocks of both.

Dosovitskiy et al. 2021, 'An Image is Worth 16x16 Words', arXiv:2010.11929, section 3.1, with the
norm before each layer, as timm's, DINO's and transformers' networks have it. GELU is the exact
one (erf); the JAX code of the paper approximates it with tanh, and its weights run with either.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tlx.errors import ConfigError
from tlx_flax.visible import Visible, visible_tokens

small_normal = nnx.initializers.normal(0.02)
"""Of kernels and positions in timm's `init_weights_vit_timm`, whose truncation at 100 standard
deviations cuts nothing off."""
dense = partial(nnx.Linear, kernel_init=small_normal)


def layer_norm(width: int, eps: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Over the last axis. The variance is that of the differences from the mean: the quicker
    E[x²] - E[x]² loses digits where a token's mean is large."""
    return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)


def dropout(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Dropout of single numbers; without a random stream where there is nothing to draw."""
    return nnx.Dropout(rate, rngs=rngs if rate else None)


def drop_path(rate: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Stochastic depth: a residual branch is left out for a whole picture, and scaled up where it
    stays (Huang et al. 2016, arXiv:1603.09382, as DeiT, arXiv:2012.12877, uses it)."""
    return nnx.Dropout(rate, broadcast_dims=(1, 2), rngs=rngs if rate else None)


class Embed(nnx.Module):
    """Patches as tokens behind a class token, with learnt positions; registers between the two
    carry no position (Darcet et al. 2024, arXiv:2309.16588)."""

    def __init__(
        self,
        size: int,
        channels: int,
        patch: int,
        width: int,
        registers: int,
        rate: float,
        rngs: nnx.Rngs,
    ):
        self.size, self.registers = size, registers
        # LeCun's normal, as in the paper's own code.
        self.patch = nnx.Conv(
            channels, width, (patch, patch), strides=patch, padding="VALID", rngs=rngs
        )
        tiny = nnx.initializers.normal(1e-6)
        self.class_embedding = nnx.Param(tiny(rngs.params(), (1, 1, width)))
        self.position_embedding = nnx.Param(
            small_normal(rngs.params(), (1, 1 + (size // patch) ** 2, width))
        )
        if registers:
            self.register_embedding = nnx.Param(tiny(rngs.params(), (1, registers, width)))
        self.dropout = dropout(rate, rngs)

    def __call__(self, x: Array, visible: Visible | None = None) -> Array:
        """(B,size,size,C) to (B,1+registers+N,D), class token first, then patches row by row,
        the visible ones if not all are.

        Raises ConfigError for pictures of another size: there are no positions for them."""
        count, height, wide, _ = x.shape
        if (height, wide) != (self.size, self.size):
            raise ConfigError(
                f"The pictures reach the network at {height} x {wide}, and its position "
                f"embeddings are for {self.size} x {self.size}. Set size = {height} in [backbone] "
                f"(positions from a file are resampled), or let the input be {self.size}."
            )
        x = self.patch(x).reshape(count, -1, self.class_embedding.shape[-1])
        first, positions = self.class_embedding[...], self.position_embedding[...]
        x = visible_tokens(x + positions[:, 1:], visible)
        tokens = [first + positions[:, :1]]
        if self.registers:
            tokens.append(self.register_embedding[...])
        leading = [jnp.broadcast_to(token, (count, *token.shape[1:])) for token in tokens]
        return self.dropout(jnp.concatenate([*leading, x], axis=1))


class Attention(nnx.Module):
    """Multi-head self-attention over all tokens (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int, rate: float, rngs: nnx.Rngs):
        self.heads = heads
        self.query = dense(width, width, rngs=rngs)
        self.key = dense(width, width, rngs=rngs)
        self.value = dense(width, width, rngs=rngs)
        self.out = dense(width, width, rngs=rngs)
        self.dropout = dropout(rate, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,T,D) to (B,T,D)."""
        query, key, value = (
            layer(x).reshape(*x.shape[:2], self.heads, -1)
            for layer in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(query, key, value)
        return self.dropout(self.out(mixed.reshape(x.shape)))


class Mlp(nnx.Module):
    """Two dense layers with GELU between them, token by token; four times as wide inside."""

    def __init__(self, width: int, rate: float, rngs: nnx.Rngs):
        self.fc1 = dense(width, 4 * width, rngs=rngs)
        self.fc2 = dense(4 * width, width, rngs=rngs)
        self.dropout1, self.dropout2 = dropout(rate, rngs), dropout(rate, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,T,D) to (B,T,D)."""
        x = self.dropout1(nnx.gelu(self.fc1(x), approximate=False))
        return self.dropout2(self.fc2(x))


class LayerScale(nnx.Module):
    """A learnt factor per channel, small at first (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, start: float):
        self.scale = nnx.Param(jnp.full((width,), start))

    def __call__(self, x: Array) -> Array:
        """(B,T,D) to (B,T,D)."""
        return x * self.scale[...]


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and beside a shortcut; layer scale where it is not
    zero."""

    def __init__(
        self,
        width: int,
        heads: int,
        eps: float,
        rate: float,
        skip: float,
        layer_scale: float,
        rngs: nnx.Rngs,
    ):
        self.norm1, self.norm2 = layer_norm(width, eps, rngs), layer_norm(width, eps, rngs)
        self.attention = Attention(width, heads, rate, rngs)
        self.mlp = Mlp(width, rate, rngs)
        self.scaled = layer_scale != 0
        if self.scaled:
            self.layer_scale1 = LayerScale(width, layer_scale)
            self.layer_scale2 = LayerScale(width, layer_scale)
        self.drop_path1, self.drop_path2 = drop_path(skip, rngs), drop_path(skip, rngs)

    def __call__(self, x: Array) -> Array:
        """(B,T,D) to (B,T,D)."""
        y = self.attention(self.norm1(x))
        x = x + self.drop_path1(self.layer_scale1(y) if self.scaled else y)
        y = self.mlp(self.norm2(x))
        return x + self.drop_path2(self.layer_scale2(y) if self.scaled else y)
