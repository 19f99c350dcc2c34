"""The classifier of SqueezeNet: one map per class, rectified, and its mean is the class's score.

Iandola et al. 2016 (arXiv:1602.07360), section 3.2, after Lin et al. 2013, 'Network in Network'
(arXiv:1312.4400), section 3.2. Loss, predictions and metrics are those of the head `softmax`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import jax
import jax.numpy as jnp
from jax import Array, lax

from tlx import registry
from tlx.errors import ConfigError, did_you_mean, listed
from tlx.protocols import Head
from tlx.types import Batch, Features, LabelKind, Mode, Params, PyTree, State, Variables


@final
@dataclass(frozen=True)
class SqueezeNetHead:
    """A 1x1 convolution, a rectifier and the mean over positions; labels (B,) int.

    Args:
        classes: how many classes.
        feature: name of the map (B,h,w,D) that it reads.
        padding: zeros around the map, where only the bias speaks; the published network has 1.
    """

    classes: int
    feature: str = "fire9"
    padding: int = 1

    label_kind: ClassVar[LabelKind] = "class"

    def __post_init__(self) -> None:
        """Refuse options without a meaning; the head `softmax` refuses too few classes."""
        if self.padding < 0:
            raise ConfigError(f"padding counts zeros around a map, so it is not {self.padding}.")
        _ = self._softmax

    @cached_property
    def _softmax(self) -> Head:
        return registry.build("heads", "softmax", {"classes": self.classes})

    @property
    def needs(self) -> tuple[str, ...]:
        """The one feature it reads."""
        return (self.feature,)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """As the head `softmax`."""
        return self._softmax.selection

    def init(self, rng: Array, features: Features) -> Variables:
        """{"kernel": (1,1,D,classes), "bias": (classes,)}, no state. Raises ConfigError where
        there is no such feature or it is no map."""
        x = self._map(features)
        # As in the definition of the reference network.
        kernel = 0.01 * jax.random.normal(rng, (1, 1, x.shape[-1], self.classes))
        return Variables({"kernel": kernel, "bias": jnp.zeros(self.classes)}, {})

    def apply(
        self,
        params: Params,
        state: State,
        features: Features,
        *,
        inputs: Mapping[str, PyTree],
        rng: Array,
        mode: Mode,
    ) -> tuple[Array, State]:
        """Logits (B,classes), none below zero."""
        pads = [(self.padding, self.padding)] * 2
        axes = ("NHWC", "HWIO", "NHWC")
        maps = lax.conv_general_dilated(
            self._map(features), params["kernel"], (1, 1), pads, dimension_numbers=axes
        )
        return jax.nn.relu(maps + params["bias"]).mean((1, 2)), state

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Cross-entropy (B,) in nats."""
        return self._softmax.loss(outputs, batch)

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """Class, probability and probabilities, as the head `softmax`."""
        return self._softmax.predict(outputs)

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """As the head `softmax`."""
        return self._softmax.measure(outputs, batch)

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """As the head `softmax`."""
        return self._softmax.report(totals)

    def _map(self, features: Features) -> Array:
        if self.feature not in features:
            raise ConfigError(
                f"The head reads the feature {self.feature!r}, which this backbone does not have."
                f"{did_you_mean(self.feature, features)} Features: {listed(features)}. "
                f"Set the head's `feature` to one of them."
            )
        x = features[self.feature]
        if x.ndim != 4:
            raise ConfigError(
                f"The head squeezenet reads a map (B,h,w,D), but {self.feature!r} is {x.shape}. "
                f"Set its `feature` to a map, or use the head softmax."
            )
        return x
