"""What a network was fed as a picture to look at: its preprocessing undone."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from tlx_image import ImageInput


def shown(spec: ImageInput, x: Array) -> Array:
    """Pictures (B,H,W,C) as `tlx.model.pictures(spec, ...)` gives them, back as RGB (B,H,W,3)
    within 0..1, in the size that the network sees. One channel is grey; of more than three the
    first three are taken."""
    x = (x * jnp.asarray(spec.std, x.dtype) + jnp.asarray(spec.mean, x.dtype)) / spec.scale
    if spec.order == "bgr":
        x = x[..., ::-1]
    return in_colour(x)


def in_colour(x: Array) -> Array:
    """Pictures (B,H,W,C) in 0..1 as RGB (B,H,W,3), cut to this range."""
    x = x[..., :3] if x.shape[-1] >= 3 else jnp.repeat(x[..., :1], 3, axis=-1)
    return jnp.clip(x, 0, 1)
