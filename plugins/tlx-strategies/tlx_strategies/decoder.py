"""A light decoder from feature maps to a picture: the way up of a U-Net.

It starts from the deepest map, enlarges what it has to the size of the next shallower one and adds
that map, projected. Hidden positions of a masked network's maps are first filled with a learnt
token of their scale (Tian et al. 2023, SparK, arXiv:2301.03580, sections 3.2 and 3.3; Ronneberger
et al. 2015, arXiv:1505.04597). It is thrown away after pre-training, so it is kept too small to do
the backbone's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import Params
from tlx_strategies import channel_norm
from tlx_strategies.patches import spread

NARROWEST = 16
"""Channels are halved from scale to scale, and not below this."""


def init(
    rng: Array,
    maps: Sequence[Any],
    picture: tuple[int, ...],
    *,
    width: int,
    depth: int,
    masked: bool,
) -> Params:
    """Parameters for feature maps (B,h,w,D), of which there is one of a size, shallow to deep, and
    for pictures of shape (B,H,W,C).

    `width` is the channels at the deepest map, `depth` the convolutions at every scale; `masked`
    maps have hidden positions to be filled."""
    he, lecun = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()
    params: dict[str, Any] = {}
    cin = width
    for number, feature in enumerate(reversed(maps)):
        for_token, for_project, for_convs, rng = jax.random.split(rng, 4)
        # The last scale keeps its width: there is none above it to halve it for.
        cout = cin if number == len(maps) - 1 else max(cin // 2, min(width, NARROWEST))
        level: dict[str, Any] = {
            "project": {
                "kernel": lecun(for_project, (feature.shape[-1], cin)),
                "bias": jnp.zeros(cin),
            }
        }
        if masked:
            level["token"] = 0.02 * jax.random.normal(for_token, feature.shape[-1:])
        for layer, key in enumerate(jax.random.split(for_convs, depth)):
            shape = (3, 3, cin if layer == 0 else cout, cout)
            level[f"conv{layer}"] = {"kernel": he(key, shape), "norm": channel_norm.init(cout)}
        params[f"scale{number}"] = level
        cin = cout
    tall, wide = _block(maps[0].shape, picture)
    pixels = tall * wide * picture[-1]
    params["out"] = {"kernel": lecun(rng, (cin, pixels)), "bias": jnp.zeros(pixels)}
    return params


def apply(
    params: Params,
    maps: Sequence[Array],
    picture: tuple[int, ...],
    *,
    hidden: Array | None = None,
) -> Array:
    """Feature maps, shallow to deep, to a picture of shape (B,H,W,C); `hidden` (B,rows,columns) is
    True for cells of which the maps say nothing."""
    x: Array | None = None
    for number, feature in enumerate(reversed(maps)):
        level = params[f"scale{number}"]
        if hidden is not None:
            feature = jnp.where(_positions(hidden, feature), level["token"], feature)
        here = feature @ level["project"]["kernel"] + level["project"]["bias"]
        y = here if x is None else here + enlarged(x, here.shape)
        for layer in range(sum(name.startswith("conv") for name in level)):
            y = _layer(level[f"conv{layer}"], y)
        x = y
    assert x is not None
    blocks = x @ params["out"]["kernel"] + params["out"]["bias"]
    return shuffled(blocks, _block(maps[0].shape, picture), picture)


def enlarged(x: Array, shape: tuple[int, ...]) -> Array:
    """A map with its positions repeated to the height and width of `shape`."""
    tall, wide = _block(x.shape, shape)
    return jnp.repeat(jnp.repeat(x, tall, 1), wide, 2)[:, : shape[1], : shape[2]]


def shuffled(blocks: Array, block: tuple[int, int], picture: tuple[int, ...]) -> Array:
    """(B,h,w,P), a block of pixels for each position, laid side by side (pixel shuffle, Shi et al.
    2016, arXiv:1609.05158) to a picture of shape (B,H,W,C)."""
    b, h, w, _ = blocks.shape
    tall, wide = block
    x = blocks.reshape(b, h, w, tall, wide, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, h * tall, w * wide, -1)
    if x.shape != picture:  # the strides do not divide the picture
        x = jax.image.resize(x, picture, "linear")
    return x


def _layer(params: Params, x: Array) -> Array:
    """3x3 convolution, norm over the channels, GELU."""
    x = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.gelu(channel_norm.apply(params["norm"], x))


def _positions(hidden: Array, feature: Array) -> Array:
    cell = feature.shape[1] // hidden.shape[1]
    return spread(hidden.reshape(len(hidden), -1), cell, feature.shape[1:3])


def _block(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[int, int]:
    """Pixels that one position of a map stands for, rounded up."""
    return -(-large[1] // small[1]), -(-large[2] // small[2])
