"""L2-SP: the distance of the weights from the source's, the starting point.

What the source learnt is kept unless the target gives a reason to leave it. It stands in for
weight decay on the shared weights, so set that to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Params
from tlx_divergences.squares import half_squares


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
        if not self.head >= 0:
            raise ConfigError(f"head weighs a penalty and must be 0 or more, not {self.head}.")

    def __call__(self, *, params: Params, head_params: Params, source_params: Params) -> Array:
        """A scalar; 0 at the source (with `head` 0). Raises ConfigError for a weight on the head
        of a model that has none."""
        moved = jax.tree.map(lambda w, start: w - start, params, source_params)
        total = half_squares(self._counted(moved))
        if self.head > 0:
            if head_params is None:
                raise ConfigError("l2_sp weighs the head's parameters and this model has no head.")
            total = total + self.head * half_squares(self._counted(head_params))
        return total

    def _counted(self, tree: Params) -> list[Array]:
        return [w for w in jax.tree.leaves(tree) if self.norms_and_biases or w.ndim > 1]
