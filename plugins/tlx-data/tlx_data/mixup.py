"""Mixup: two pictures laid over each other, and their labels in the same proportion.

Zhang et al. 2018, "mixup: beyond empirical risk minimization" (arXiv:1710.09412), equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx_data.mixing_share import check_mixing, share_of_label


@final
@dataclass(frozen=True)
class Mixup:
    """`share` times a picture (H,W,C) plus the rest times another one of the batch; `share` is
    drawn for each from Beta(`alpha`, `alpha`).

    The paper has `alpha` from 0.1 to 0.4 for ImageNet and 1 for CIFAR-10. With `probability` below
    1 some pictures stay as they are."""

    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_mixing("mixup", self.alpha, self.probability)

    @property
    def keeps_places(self) -> bool:
        """Every pixel is of both by the same share."""
        return True

    def mix(self, rng: Array, image: Array, other: Array) -> tuple[Array, Array]:
        """The mixed picture, and the share of the first."""
        share = share_of_label(rng, self.alpha, self.probability)
        return share * image + (1 - share) * other, share
