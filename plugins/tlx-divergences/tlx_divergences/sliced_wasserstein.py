"""Sliced Wasserstein: the transport cost between two samples, seen along random lines.

On a line the cheapest plan is to sort both samples, so each direction costs a sort and nothing has
to converge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Features
from tlx_divergences.samples import samples


@final
@dataclass(frozen=True)
class SlicedWasserstein:
    """Mean over random directions θ, ‖θ‖ = 1, of W₂²(⟨s,θ⟩, ⟨t,θ⟩) between the features s of the
    labelled batch and t of the domain batch (Bonneel et al. 2015, J. Math. Imaging and Vision 51,
    section 2; Kolouri et al. 2019, arXiv:1902.00434).

    On a line W₂² is the mean of the squared differences of the sorted values; batches of different
    sizes are compared quantile by quantile, which is exact, too. Each step draws other directions.
    A shift of one sample by v counts ‖v‖² / C in expectation, C being the number of channels. 0 at
    equal samples, 0 or more. The sorting is of the whole batch: the value does not add up over
    micro-batches.

    Args:
        feature: the feature to compare; positions of a map or of tokens are averaged.
        projections: how many directions a step looks along.
    """

    whole_batch: ClassVar[str] = "it sorts all examples"
    feature: str = "pooled"
    projections: int = 128

    def __post_init__(self) -> None:
        """Refuse to look nowhere."""
        if not self.projections > 0:
            raise ConfigError(
                f"projections of sliced_wasserstein must be 1 or more, not {self.projections}."
            )

    def __call__(self, *, features: Features, domain_features: Features, rng: Array) -> Array:
        """A scalar, 0 or more. Raises ConfigError for a feature that is missing."""
        here, there = samples(features, domain_features, self.feature, "sliced_wasserstein")
        lines = directions(rng, here.shape[1], self.projections).astype(here.dtype)
        mass, i, j = quantiles(len(here), len(there))
        sorted_here, sorted_there = (
            jnp.sort(jnp.matmul(x, lines, precision="highest"), 0) for x in (here, there)
        )
        gaps = jnp.square(sorted_here[i] - sorted_there[j]).mean(1)
        return jnp.sum(gaps * mass.astype(here.dtype))


def directions(rng: Array, channels: int, count: int) -> Array:
    """(channels, count) of vectors of length 1, uniform on the sphere."""
    drawn = jax.random.normal(rng, (channels, count))
    return drawn / jnp.linalg.norm(drawn, axis=0)


def quantiles(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mass, i, j): the cheapest plan between n and m sorted values of equal masses carries `mass`
    from value `i` to value `j`; for n = m that is 1 / n from each to its like."""
    # Both quantile functions are constant between neighbours of this list, in units of 1 / nm.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return np.diff(levels) / (n * m), levels[:-1] // m, levels[:-1] // n
