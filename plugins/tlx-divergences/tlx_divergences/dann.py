"""DANN: a small network learns to tell the domains apart, and the features learn to confuse it.

The distance is the one that matters to a classifier: what no discriminator can tell apart, a head
that was trained on one domain cannot tell apart either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.types import Batch, Features, Network, Params, Variables
from tlx_divergences.gradient_reversal import reversed_gradient
from tlx_divergences.pairing import channels
from tlx_divergences.samples import samples


@final
@dataclass(frozen=True)
class Dann:
    """Binary cross-entropy in nats of a discriminator that tells the features of the labelled batch
    (0) from the domain batch's (1): the mean over each batch, and the mean of the two (Ganin et
    al. 2016, JMLR 17, arXiv:1505.07818, equation 9, whose sum of the two is twice as much).

    log 2 is what chance gives. The value shrinks as the discriminator learns, and grows as the
    features do, whose gradient is reversed: −strength · λ_p times that of the value. With `ramp`
    λ_p = 2 / (1 + exp(−10 p)) − 1 goes from 0 to 1 over the run's progress p (arXiv:1409.7495,
    section 4) and the discriminator learns at its full rate from the first step on; a run's weight
    (and its schedule) scales both. It is a mean per example, and adds up over equal micro-batches.

    Args:
        feature: what the discriminator sees; positions of a map or of tokens are averaged.
        hidden: widths of its hidden layers, with ReLU; (100,) is the paper's for digits, (1024,
            1024) the one for larger networks, () a linear one.
        strength: the reversed gradient relative to the discriminator's.
        ramp: let the reversed gradient grow from 0.
    """

    feature: str = "pooled"
    hidden: tuple[int, ...] = (100,)
    strength: float = 1.0
    ramp: bool = True

    def __post_init__(self) -> None:
        """Refuse layers without units and a gradient that is not reversed."""
        if not all(width > 0 for width in self.hidden):
            raise ConfigError(f"hidden of dann are widths of layers, above 0, not {self.hidden}.")
        if not self.strength > 0:
            raise ConfigError(
                f"strength of dann scales the reversed gradient and must be above 0, not "
                f"{self.strength}."
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature that the discriminator sees."""
        return (self.feature,)

    def init(self, *, model: Model, source: Network | None, batch: Batch, rng: Array) -> Variables:
        """The discriminator: a kernel (in,out) and a bias (out,) a layer, He's normal kernels."""
        widths = (channels(model, self.feature, "dann"), *self.hidden, 1)
        draw = jax.nn.initializers.he_normal()
        keys = jax.random.split(rng, len(widths) - 1)
        return Variables(
            {
                f"layer_{i}": {
                    "kernel": draw(keys[i], widths[i : i + 2]),
                    "bias": jnp.zeros(widths[i + 1]),
                }
                for i in range(len(widths) - 1)
            },
            {},
        )

    def __call__(
        self, *, features: Features, domain_features: Features, own: Params, progress: Array
    ) -> Array:
        """A scalar, 0 or more. Raises ConfigError for a feature that is missing."""
        here, there = samples(features, domain_features, self.feature, "dann")
        grown = 2 / (1 + jnp.exp(-10 * progress)) - 1 if self.ramp else 1.0
        strength = jnp.asarray(self.strength * grown, here.dtype)
        here, there = (_logits(own, reversed_gradient(x, strength)) for x in (here, there))
        return (jax.nn.softplus(here).mean() + jax.nn.softplus(-there).mean()) / 2


def _logits(own: Params, x: Array) -> Array:
    """(B,) of evidence for the second domain, from vectors (B,C)."""
    for number in range(len(own)):
        layer = own[f"layer_{number}"]
        x = x @ layer["kernel"] + layer["bias"]
        if number < len(own) - 1:
            x = jax.nn.relu(x)
    return x[:, 0]
