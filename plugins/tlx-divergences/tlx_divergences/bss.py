"""Batch spectral shrinkage: what the batch hardly uses is given up.

Directions of the features with small singular values transfer badly (negative transfer); pressing
the smallest towards zero suppresses them. It knows nothing of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.types import Features
from tlx_divergences.feature_matrix import feature_matrix
from tlx_divergences.named import feature


@final
@dataclass(frozen=True)
class BSS:
    """Σ_{i≤k} σ²_{−i}: the k smallest squared singular values of the batch's feature matrix, a
    sum as in its paper, so it grows with the batch. It does not add up over micro-batches.

    The matrix is (B,D), with everything but the examples flattened, and has min(B,D) singular
    values. Chen et al. 2019, 'Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
    Shrinkage for Safe Transfer Learning' (NeurIPS), section 4; the paper takes k = 1 and a weight
    of 1e-3.

    Args:
        feature: name of the feature.
        k: how many singular values are pressed.
    """

    whole_batch: ClassVar[str] = "its singular values are those of all examples together"
    feature: str = "pooled"
    k: int = 1

    def __post_init__(self) -> None:
        """Refuse a k below 1."""
        if self.k < 1:
            raise ConfigError(f"k counts singular values and must be 1 or more, not {self.k}.")

    @property
    def smallest_batch(self) -> int:
        """As many as singular values are pressed."""
        return self.k

    def __call__(self, *, features: Features) -> Array:
        """A scalar. Raises ConfigError for a feature that is missing, or for a batch with fewer
        than k singular values."""
        matrix = feature_matrix(feature(features, self.feature, "bss"))
        if self.k > min(matrix.shape):
            raise ConfigError(
                f"bss presses the {self.k} smallest singular values of {self.feature!r}, and its "
                f"matrix of {matrix.shape[0]} examples and {matrix.shape[1]} numbers has "
                f"{min(matrix.shape)}. Lower k or enlarge the batch."
            )
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        gram = jnp.matmul(wide, wide.T, precision="highest")
        _, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(gram))
        # Along these vectors F has just the k smallest values. Held fixed, they give the gradient
        # 2 U Uᵀ F of the sum, also where eigenvalues coincide and those of `eigvalsh` are split at
        # random or not finite.
        shadow = jnp.matmul(vectors[:, : self.k].T, wide, precision="highest")
        return jnp.square(shadow).sum()
