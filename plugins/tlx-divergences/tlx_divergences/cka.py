"""CKA: whether two networks find the same pictures alike, in whatever coordinates.

Centred kernel alignment compares the similarities between the examples of a batch instead of the
features themselves, so that rotating or scaling a feature changes nothing and widths may differ.
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
from tlx_divergences.pairing import pairs

CONSTANT = 1e-6
"""Features whose spread over the batch is below this part of their size count as constant."""


@final
@dataclass(frozen=True)
class CKA:
    """Mean over `features` of 1 − HSIC(X,Y) / √(HSIC(X,X) HSIC(Y,Y)), linear kernels, HSIC in its
    unbiased estimate from one batch; between 0 and 2, around 1 for unrelated features.

    X are the current features, Y the source's of the same pictures, flattened to (B,D). Kornblith
    et al. 2019 (arXiv:1905.00414, section 3) define the ratio and Nguyen et al. 2021
    (arXiv:2010.15327, equation 3) take HSIC_1 of Song et al. 2012 in it, which does not grow when
    the batch is small; they sum numerators and denominators over batches, here each batch is a
    divergence of its own. It does not add up over micro-batches. Features that are constant over
    the batch are like nothing: 1.

    Args:
        features: names of the features.
        source_features: their names in the source, in the same order; by default the same.
    """

    whole_batch: ClassVar[str] = "it compares all pairs of examples"
    smallest_batch: ClassVar[int] = 4
    features: tuple[str, ...] = ("pooled",)
    source_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty list, and names without a counterpart."""
        if not self.features:
            raise ConfigError("cka compares features and `features` names none.")
        pairs(self.features, self.source_features, "cka")

    def __call__(self, *, features: Features, source_features: Features) -> Array:
        """A scalar; 0 at the source and at whatever rotates or scales it. Raises ConfigError for
        a feature that is missing, or for fewer than 4 examples."""
        total = jnp.zeros(())
        for name, other in pairs(self.features, self.source_features, "cka"):
            now = feature_matrix(feature(features, name, "cka"))
            then = feature_matrix(feature(source_features, other, "cka", " of the source"))
            if now.shape[0] < self.smallest_batch:
                raise ConfigError(
                    f"cka estimates similarities without bias, which takes "
                    f"{self.smallest_batch} examples, and this batch has {now.shape[0]}. Raise "
                    f"batch_size."
                )
            total = total + 1 - jnp.vdot(_similarities(now), _similarities(then))
        return total / len(self.features)


def _similarities(x: Array) -> Array:
    """(B,B): the Gram matrix, centred so that the sum of products of two of them over n(n-3) is
    their unbiased HSIC (Székely and Rizzo 2014, Ann. Statist. 42, section 3), of length 1."""
    n = x.shape[0]
    size = jnp.sqrt(jnp.square(x).sum() / n)
    x = (x - x.mean(0)) / jax.lax.stop_gradient(jnp.maximum(size, jnp.finfo(x.dtype).tiny))
    # Neither the shift nor the scale changes the result; they keep constants exact and numbers
    # near 1.
    others = 1 - jnp.eye(n, dtype=x.dtype)
    gram = jnp.matmul(x, x.T, precision="highest") * others
    row = gram.sum(0) / (n - 2)
    centred = (gram - row - row[:, None] + row.sum() / (n - 1)) * others
    square = jnp.square(centred).sum()
    return centred * jax.lax.rsqrt(jnp.maximum(square, (CONSTANT**2 * n) ** 2))
