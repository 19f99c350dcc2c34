"""L2-SP: the distance of the weights from the source's, the starting point.

What the source learnt is kept unless the target gives a reason to leave it. It stands in for
weight decay on the shared weights, so set that to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.types import Params
from tlx_divergences.squares import half_squares
from tlx_divergences.starting_point import checked_head, counted, moved, new_layers


@final
@dataclass(frozen=True)
class L2SP:
    """½ ‖w − w⁰‖² + head · ½ ‖w_new‖², as a sum over parameters.

    w are the backbone's parameters, w⁰ the source's, w_new the head's. Times the run's weight
    this is the penalty of Li, Grandvalet and Davoine 2018 (arXiv:1802.01483, section 3) with
    α = weight and β = weight · head. A frozen parameter is where the source is and adds nothing.

    Args:
        head: weight of the second term relative to the first; 0 leaves the head free.
        norms_and_biases: count leaves with a single axis, too: biases, norm scales and offsets.
            The paper penalises all parameters.
    """

    head: float = 0.0
    norms_and_biases: bool = True

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        checked_head(self.head)

    def __call__(self, *, params: Params, head_params: Params, source_params: Params) -> Array:
        """A scalar; 0 at the source (with `head` 0). Raises ConfigError for a weight on the head
        of a model that has none."""
        held = counted(moved(params, source_params), self.norms_and_biases)
        decay = new_layers(self.head, head_params, "l2_sp", self.norms_and_biases)
        return half_squares(held) + decay
