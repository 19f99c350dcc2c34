"""A light decoder from the tokens of visible patches to all patches: a small Transformer.

Tokens are projected, a learnt mask token takes the place of every hidden patch, each gets its fixed
sine-cosine position, and after some pre-norm blocks a linear layer gives the pixels of each patch
(He et al. 2022, MAE, arXiv:2111.06377, section 3).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.types import Params
from tlx_strategies import channel_norm

HEAD = 32
"""Channels of an attention head, as in the paper's decoder: 16 heads for 512."""


def init(rng: Array, channels: int, pixels: int, *, width: int, depth: int) -> Params:
    """Parameters for tokens (B,T,channels) and patches of `pixels` numbers; `depth` blocks of
    `width` channels, a multiple of 4."""
    for_embed, for_token, for_blocks, for_out = jax.random.split(rng, 4)
    params: dict[str, Any] = {
        "embed": _dense(for_embed, channels, width),
        "token": 0.02 * jax.random.normal(for_token, (width,)),
        "norm": channel_norm.init(width),
        "out": _dense(for_out, width, pixels),
    }
    for number, key in enumerate(jax.random.split(for_blocks, depth)):
        qkv, out, fc1, fc2 = jax.random.split(key, 4)
        params[f"block{number}"] = {
            "norm1": channel_norm.init(width),
            "query_key_value": _dense(qkv, width, 3 * width),
            "attention": _dense(out, width, width),
            "norm2": channel_norm.init(width),
            "fc1": _dense(fc1, width, 4 * width),
            "fc2": _dense(fc2, 4 * width, width),
        }
    return params


def apply(params: Params, tokens: Array, hidden: Array, *, count: int) -> Array:
    """(B,rows*columns,P), what every patch is said to look like, row by row.

    `tokens` (B,T,D) are those of the `count` patches of every picture that are not `hidden`
    (B,rows,columns), behind others that stand for no patch: these take part, without position."""
    rows, columns = hidden.shape[1:]
    flat = hidden.reshape(len(hidden), -1)
    x = _linear(params["embed"], tokens)
    leading = x.shape[1] - count
    rank = jnp.maximum(jnp.cumsum(~flat, axis=1) - 1, 0)
    there = jnp.take_along_axis(x[:, leading:], rank[..., None], axis=1)
    patches = jnp.where(flat[..., None], params["token"], there)
    patches = patches + jnp.asarray(sine_cosine(rows, columns, x.shape[-1]), x.dtype)
    x = jnp.concatenate([x[:, :leading], patches], axis=1)
    for number in range(sum(name.startswith("block") for name in params)):
        x = _block(params[f"block{number}"], x)
    return _linear(params["out"], channel_norm.apply(params["norm"], x[:, leading:]))


def sine_cosine(rows: int, columns: int, width: int) -> np.ndarray:
    """(rows*columns,width): half of the channels tell the column, half the row, each in sines, then
    cosines, of wave lengths from 2 pi to 20,000 pi; `width` is a multiple of 4."""
    rates = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    waves = [wave(place * rates) for place in (column, row) for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1)


def _block(params: Params, x: Array) -> Array:
    """Attention and MLP, each behind a norm and beside a shortcut."""
    b, length, width = x.shape
    y = _linear(params["query_key_value"], channel_norm.apply(params["norm1"], x))
    query, key, value = (
        part.reshape(b, length, heads(width), -1) for part in jnp.split(y, 3, axis=-1)
    )
    mixed = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
    x = x + _linear(params["attention"], mixed)
    y = _linear(params["fc1"], channel_norm.apply(params["norm2"], x))
    return x + _linear(params["fc2"], jax.nn.gelu(y, approximate=False))


def heads(width: int) -> int:
    """Heads of about 32 channels each, as many as divide the width."""
    return next(n for n in range(max(width // HEAD, 1), 0, -1) if width % n == 0)


def _dense(rng: Array, cin: int, cout: int) -> Params:
    return {
        "kernel": jax.nn.initializers.glorot_uniform()(rng, (cin, cout)),
        "bias": jnp.zeros(cout),
    }


def _linear(params: Params, x: Array) -> Array:
    return x @ params["kernel"] + params["bias"]
