"""Sinkhorn divergence: what it costs to carry one sample onto the other, without entropy's bias.

Unlike a kernel distance it knows how far apart samples are that do not overlap yet, and its
gradient draws every example towards where it is carried.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Features
from tlx_divergences.not_below import not_below_zero
from tlx_divergences.samples import samples
from tlx_divergences.squared_distances import squared_distances


@final
@dataclass(frozen=True)
class Sinkhorn:
    """OT_ε(s,t) − ½ OT_ε(s,s) − ½ OT_ε(t,t) between the features s of the labelled batch and t of
    the domain batch, each example with the same mass (Genevay, Peyré and Cuturi 2018,
    arXiv:1706.00292; Feydy et al. 2019, arXiv:1810.08278).

    OT_ε is the minimum of ⟨P, c⟩ + ε KL(P ‖ a ⊗ b) over the plans P between the two, with the cost
    c = ‖s − t‖², so the value has the unit of a squared feature: W₂² for a small ε, ‖mean s −
    mean t‖² for a large one. 0 at equal samples, 0 or more. The potentials are
    iterated by ott-jax in the log domain, averaged as in Feydy et al., section 3, and the gradient
    goes through the cost alone (envelope theorem). A plan belongs to the whole batch: the value
    does not add up over micro-batches.

    Args:
        feature: the feature to compare; positions of a map or of tokens are averaged.
        epsilon: ε as a share of the mean cost between the two batches, which carries no gradient.
            Smaller is nearer to W₂² and takes more iterations.
        threshold: the iteration ends when the plan misses the masses, 1 in all on either side, by
            less than this in all.
        iterations: it ends after so many at the latest, with what it has.
    """

    whole_batch: ClassVar[str] = "its plan goes from all examples to all others"
    feature: str = "pooled"
    epsilon: float = 0.05
    threshold: float = 1e-3
    iterations: int = 2000

    def __post_init__(self) -> None:
        """Refuse what the iteration cannot work with."""
        if not (self.epsilon > 0 and self.threshold > 0 and self.iterations > 0):
            raise ConfigError(
                f"epsilon, threshold and iterations of sinkhorn must be above 0, not "
                f"{self.epsilon}, {self.threshold} and {self.iterations}."
            )

    def __call__(self, *, features: Features, domain_features: Features) -> Array:
        """A scalar. Raises ConfigError for a feature that is missing."""
        with warnings.catch_warnings():
            # A dependency of ott announces on import that nobody maintains it.
            warnings.filterwarnings("ignore", "JAXopt", DeprecationWarning)
            from ott.geometry.geometry import Geometry
            from ott.solvers.linear.acceleration import Momentum
            from ott.tools.sinkhorn_divergence import sinkhorn_divergence
        here, there = samples(features, domain_features, self.feature, "sinkhorn")
        across = squared_distances(here, there)
        # Points that all coincide cost nothing at any ε above 0.
        tiny = jnp.finfo(across.dtype).tiny ** 0.5
        epsilon = self.epsilon * jnp.maximum(jax.lax.stop_gradient(across.mean()), tiny)
        # The same averaged iteration for all three problems makes equal samples exactly 0.
        value, _ = sinkhorn_divergence(
            Geometry,
            across,
            squared_distances(here, here),
            squared_distances(there, there),
            epsilon=epsilon,
            a=jnp.full(len(here), 1 / len(here), across.dtype),
            b=jnp.full(len(there), 1 / len(there), across.dtype),
            solve_kwargs={
                "threshold": self.threshold,
                "max_iterations": self.iterations,
                "parallel_dual_updates": True,
                "momentum": Momentum(start=0, value=0.5),
            },
        )
        return not_below_zero(value)
