"""L2: the distance of the weights from zero, which knows nothing of the source.

The baseline that every other divergence is held against.
"""

from __future__ import annotations

from jax import Array

from tlx.types import Params
from tlx_divergences.squares import half_squares


def l2(*, params: Params) -> Array:
    """½ ‖w‖² over all backbone parameters, as a sum over parameters.

    Kernels, biases, norm scales and offsets all count; the head does not. Frozen parameters add
    a constant and no gradient. With plain gradient descent this is weight decay on the backbone
    (Krogh and Hertz 1991; the L2 of arXiv:1802.01483, section 3).
    """
    return half_squares(params)
