"""FitNets: a regressor on top of the network guesses the source's features.

It stands between features of different widths, so that a thin network can take hints from a wide
one, and it leaves the network free to say the same in other coordinates.
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
from tlx_divergences.named import feature
from tlx_divergences.pairing import channels, on_one_grid, pairs


@final
@dataclass(frozen=True)
class FitNets:
    """Mean over `features` of ½ mean (u⁰ − r(v))², the inner mean over all elements (B, positions
    and channels of the source).

    v are the current features, u⁰ the source's of the same pictures, and r is a regressor that is
    learnt along: linear over channels, which on a map is a 1x1 convolution. Equation 3 of Romero
    et al. 2015 (arXiv:1412.6550, section 2.2) with a mean for its sum. There it is a stage of its
    own, before training on labels, and a larger kernel brings the guided map to the hint's grid;
    here maps on different grids are interpolated to the smaller one.

    Args:
        features: names of the guided features.
        source_features: names of the source's hints, in the same order; by default the same.
    """

    features: tuple[str, ...] = ("pooled",)
    source_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty list, and names without a counterpart."""
        if not self.features:
            raise ConfigError("fitnets compares features and `features` names none.")
        self._pairs()

    @property
    def reads(self) -> tuple[str, ...]:
        """The guided features and the hints."""
        return (*self.features, *self.source_features)

    def init(self, *, model: Model, source: Network | None, batch: Batch, rng: Array) -> Variables:
        """The regressors: name -> `kernel` (C,C⁰), LeCun normal, and `bias` (C⁰,), zero."""
        assert source is not None  # it asks for `source_features`
        own = {}
        for number, (name, other) in enumerate(self._pairs()):
            inputs = channels(model, name, "fitnets")
            outputs = channels(source.model, other, "fitnets", " of the source")
            lecun = jax.nn.initializers.lecun_normal()
            kernel = lecun(jax.random.fold_in(rng, number), (inputs, outputs))
            own[name] = {"kernel": kernel, "bias": jnp.zeros(outputs)}
        return Variables(own, {})

    def __call__(self, *, features: Features, source_features: Features, own: Params) -> Array:
        """A scalar; 0 where the regressors guess right. Raises ConfigError for a feature that is
        missing, or has other positions in the source and is no map."""
        total = jnp.zeros(())
        for name, other in self._pairs():
            guess = feature(features, name, "fitnets") @ own[name]["kernel"] + own[name]["bias"]
            hint = feature(source_features, other, "fitnets", " of the source")
            guess, hint = on_one_grid(guess, hint, name, "fitnets")
            total = total + jnp.square(hint - guess).mean() / 2
        return total / len(self.features)

    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return pairs(self.features, self.source_features, "fitnets")
