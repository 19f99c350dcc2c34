"""CutMix: a rectangle of one picture in another, and their labels in proportion of the areas.

Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable
features" (arXiv:1905.04899), section 3.1 and algorithm A1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx_data.mixing_share import check_mixing, share_of_label
from tlx_data.random_erasing import within


@final
@dataclass(frozen=True)
class CutMix:
    """A rectangle of (H,W,C) is taken from another picture of the batch, from the same place.

    Its share of the area is drawn from Beta(`alpha`, `alpha`), its proportions are the picture's
    and its middle is anywhere; what would lie outside is cut off, and what is left is what the
    other label counts. The paper has `alpha` 1. With `probability` below 1 some pictures stay as
    they are."""

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_mixing("cutmix", self.alpha, self.probability)

    def mix(self, rng: Array, image: Array, other: Array) -> tuple[Array, Array]:
        """The picture with a part of the other, and the share of the first."""
        for_share, for_place = jax.random.split(rng)
        share = share_of_label(for_share, self.alpha, self.probability)
        size = jnp.asarray(image.shape[:2])
        half = (size * jnp.sqrt(1 - share)).astype(int) // 2
        middle = jax.random.randint(for_place, (2,), 0, size)
        start, stop = jnp.clip(middle - half, 0, size), jnp.clip(middle + half, 0, size)
        mixed = jnp.where(within(start, stop, image), other, image)
        return mixed, 1 - (stop - start).prod() / size.prod()
