"""Real numbers instead of classes: a linear layer and squared error.

Targets may be standardised by a given mean and standard deviation, so that numbers in large
units train as well as small ones; predictions and metrics are in the labels' own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError, DataError
from tlx.types import Batch, Features, Mode, Params, State, Variables
from tlx_heads import linear


@final
@dataclass(frozen=True)
class Regression:
    """Least squares on `feature`; labels are (B,outputs), or (B,) for a single output.

    Args:
        outputs: how many numbers per picture.
        feature: name of the feature it reads; maps and tokens are averaged over positions.
        mean, std: the network predicts (label - mean) / std; both in the labels' units.
    """

    outputs: int = 1
    feature: str = "pooled"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.outputs < 1:
            raise ConfigError(f"A regression head needs at least 1 output, not {self.outputs}.")
        if not self.std > 0:
            raise ConfigError(f"std divides the labels and must be above 0, not {self.std}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The one feature it reads."""
        return (self.feature,)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """The best epoch has the lowest mean squared error."""
        return "mse", "min"

    def init(self, rng: Array, features: Features) -> Variables:
        """{"kernel": (D,outputs), "bias": (outputs,)}, no state."""
        return linear.init(rng, linear.vector(features, self.feature), self.outputs)

    def apply(
        self,
        params: Params,
        state: State,
        features: Features,
        *,
        size: tuple[int, int],
        rng: Array,
        mode: Mode,
    ) -> tuple[Array, State]:
        """Standardised values (B,outputs)."""
        return linear.apply(params, linear.vector(features, self.feature)), state

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Squared error (B,) of the standardised values, a mean over outputs. Raises DataError
        for labels of another shape; nothing is ever broadcast."""
        return jnp.square(outputs - self._targets(outputs, batch)).mean(-1)

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """`value` (B,outputs) in the labels' units."""
        return {"value": outputs * self.std + self.mean}

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """Weighted sums: `n`, and per output (outputs,) of the standardised values `squared` and
        `absolute` error, `target` and `target_squared`."""
        target = self._targets(outputs, batch)
        weight = batch["weight"][:, None]
        error = outputs - target
        return {
            "n": weight.sum(),
            "squared": (weight * jnp.square(error)).sum(0),
            "absolute": (weight * jnp.abs(error)).sum(0),
            "target": (weight * target).sum(0),
            "target_squared": (weight * jnp.square(target)).sum(0),
        }

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """`mse`, `mae` and `r2`, each a mean over outputs, and `loss`, the standardised mse.

        Labels whose mean is large against their spread need `mean` and `std` for a precise r2:
        their variance is a difference of sums."""
        n = float(totals["n"])
        if n == 0:
            raise DataError("There is nothing to report on: every example has weight 0.")
        squared, absolute, target, target_squared = (
            np.asarray(totals[name], np.float64) / n
            for name in ("squared", "absolute", "target", "target_squared")
        )
        spread = np.maximum(target_squared - target**2, 0)
        # As in scikit-learn, constant labels give 1 if they are hit exactly, else 0.
        r2 = np.where(spread > 0, 1 - squared / np.where(spread > 0, spread, 1), squared == 0)
        return {
            "mse": float(squared.mean()) * self.std**2,
            "mae": float(absolute.mean()) * self.std,
            "r2": float(r2.mean()),
            "loss": float(squared.mean()),
        }

    def _targets(self, outputs: Array, batch: Batch) -> Array:
        label = jnp.asarray(batch["label"])
        if label.ndim == 1 and self.outputs == 1:
            label = label[:, None]
        if label.shape != outputs.shape:
            raise DataError(
                f"A regression head with {self.outputs} outputs wants labels of shape "
                f"{outputs.shape}; they are {label.shape}. Set the head's `outputs` to how many "
                f"numbers a label has."
            )
        return (label.astype(outputs.dtype) - self.mean) / self.std
