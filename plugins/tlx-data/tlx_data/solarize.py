"""Solarisation: light tones are turned into their negative, or not.

As in the views of BYOL (Grill et al. 2020, arXiv:2006.07733, appendix B), where it is applied to
one view in five of the second kind only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.errors import ConfigError
from tlx_data.image_operations import solarized
from tlx_data.sometimes import check_probability, sometimes


@final
@dataclass(frozen=True)
class Solarize:
    """With the given `probability` (0 to 1) every value of (H,W,C) of at least `threshold` (0 to
    1) becomes 1 minus itself."""

    threshold: float = 0.5
    probability: float = 0.2

    def __post_init__(self) -> None:
        check_probability("solarize", self.probability)
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"solarize: threshold = {self.threshold} is not between 0 and 1.")

    @property
    def keeps_places(self) -> bool:
        """Values change, and nothing moves."""
        return True

    def __call__(self, rng: Array, image: Array) -> Array:
        """The picture, or the same solarised."""
        return sometimes(rng, self.probability, solarized(image, self.threshold), image)
