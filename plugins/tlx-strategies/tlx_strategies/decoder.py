"""A light decoder from a feature map back to a picture.

A 3x3 convolution, a non-linearity and a projection to a block of pixels per position, which are
laid side by side (pixel shuffle, Shi et al. 2016, arXiv:1609.05158). It is thrown away after
pre-training, so it is kept too small to do the backbone's work.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx.types import Params


def init(rng: Array, feature: tuple[int, ...], picture: tuple[int, ...], width: int) -> Params:
    """Parameters for a feature map of shape (B,h,w,D) and pictures of shape (B,H,W,C)."""
    for_conv, for_out = jax.random.split(rng)
    tall, wide = _block(feature, picture)
    pixels = tall * wide * picture[-1]
    he, lecun = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()
    return {
        "conv": {"kernel": he(for_conv, (3, 3, feature[-1], width)), "bias": jnp.zeros(width)},
        "out": {"kernel": lecun(for_out, (width, pixels)), "bias": jnp.zeros(pixels)},
    }


def apply(params: Params, feature: Array, picture: tuple[int, ...]) -> Array:
    """Feature map (B,h,w,D) -> picture of shape (B,H,W,C)."""
    b, h, w, _ = feature.shape
    x = jax.lax.conv_general_dilated(
        feature,
        params["conv"]["kernel"],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jax.nn.gelu(x + params["conv"]["bias"]) @ params["out"]["kernel"] + params["out"]["bias"]
    tall, wide = _block(feature.shape, picture)
    x = x.reshape(b, h, w, tall, wide, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, h * tall, w * wide, -1)
    if x.shape != picture:  # the strides do not divide the picture
        x = jax.image.resize(x, picture, "linear")
    return x


def _block(feature: tuple[int, ...], picture: tuple[int, ...]) -> tuple[int, int]:
    """Pixels that one position of the map stands for, rounded up."""
    return -(-picture[1] // feature[1]), -(-picture[2] // feature[2])
