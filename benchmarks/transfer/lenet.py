"""A LeNet for digits of 28x28 pixels, as two plain functions: two convolutions, each followed by a
pooling, and a dense layer, without batch norm.

Networks for domain shift are commonly of this kind (LeCun et al. 1998, 'Gradient-based learning
applied to document recognition'); without batch norm nothing but the divergence mixes the domains.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
from jax import Array
from tlx_image import ImageInput

from tlx.backbones.functions import wrap_functions
from tlx.protocols import Backbone
from tlx.types import Params


def lenet(width: int = 16, features: int = 128) -> Backbone:
    """`width` and 2 `width` channels, then `features` numbers, called `pooled`."""
    inputs = ImageInput(size=(28, 28), channels=1, mean=(0.1307,), std=(0.3081,))
    options = {"width": width, "features": features}
    return wrap_functions(_init, _apply, ("pooled",), inputs, options=options)


def _init(rng: Array, x: Array, width: int, features: int) -> Params:
    shapes = {
        "conv1": (5, 5, x.shape[-1], width),
        "conv2": (5, 5, width, 2 * width),
        "dense": (4 * 4 * 2 * width, features),
    }
    draw = jax.nn.initializers.he_normal()
    keys = jax.random.split(rng, len(shapes))
    return {
        name: {"kernel": draw(key, shape), "bias": jax.numpy.zeros(shape[-1])}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def _apply(params: Params, x: Array) -> Mapping[str, Array]:
    for name in ("conv1", "conv2"):
        layer = params[name]
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = _pooled(jax.nn.relu(x + layer["bias"]))
    flat = x.reshape(len(x), -1)
    return {"pooled": jax.nn.relu(flat @ params["dense"]["kernel"] + params["dense"]["bias"])}


def _pooled(x: Array) -> Array:
    """The largest of every 2x2."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
