"""How a network of `keras.applications` wants its pictures, as an ImageInput.

Keras says it as a function on pixels of 0 to 255: `preprocess_input`, which scales, shifts and
perhaps swaps channels. That function is tried on pictures of one colour, so what is written down
here is what it does. Where the network does it inside, the function does nothing and the pictures
stay at 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tlx_image import ImageInput


def input_spec(
    preprocess: Callable[[Any], Any], size: tuple[int, int], channels: int = 3
) -> ImageInput:
    """`preprocess` (B,H,W,3) 0..255 RGB, linear in each channel, for pictures in 0..1.

    With one channel instead of three the mean of the three shifts and scales is taken."""
    colours = np.concatenate([np.zeros((1, 3)), np.diag([255.0, 255.0, 255.0])])
    black, *lit = np.asarray(preprocess(colours[:, None, None, :].copy()))[:, 0, 0]
    slopes = np.stack(lit) - black
    order = "bgr" if slopes[0, 2] else "rgb"
    slope = slopes.max(0)
    # Round numbers on one of the two scales that pixels are given in.
    scale = 255.0 if np.allclose(slope, 255.0) else 1.0
    std, mean = scale / slope, -black * scale / slope
    if channels == 1:
        order, std, mean = "rgb", std.mean(keepdims=True), mean.mean(keepdims=True)
    return ImageInput(size, channels, _round(mean), _round(std), scale, order)


def _round(values: np.ndarray) -> tuple[float, ...]:
    """What was written in Keras' source, without the rounding of arithmetic; no minus zero."""
    return tuple(round(float(value), 6) + 0.0 for value in values)
