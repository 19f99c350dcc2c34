"""Real numbers instead of classes: a linear layer and squared error.

Targets are standardised by the mean and standard deviation of the training split, which a run
gives it, so that numbers in large units train as well as small ones; predictions and metrics are
in the labels' own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError, DataError
from tlx.types import Batch, Features, LabelKind, Mode, Params, PyTree, State, Variables
from tlx_heads import linear


@final
@dataclass(frozen=True)
class Regression:
    """Least squares on `feature`; labels are (B,outputs), or (B,) for a single output.

    Args:
        outputs: how many numbers per picture; a run counts them in its labels.
        feature: name of the feature it reads; maps and tokens are averaged over positions.
        mean, std: the network predicts (label - mean) / std, in the labels' units, one number or
            one for each output; a run takes those of its training split. 0 and 1 leave labels as
            they are.
        names: what the outputs are called, where there are several.
    """

    outputs: int = 1
    feature: str = "pooled"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    names: tuple[str, ...] = ()

    label_kind: ClassVar[LabelKind] = "number"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.outputs < 1:
            raise ConfigError(f"A regression head needs at least 1 output, not {self.outputs}.")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if (np.ndim(value) and np.size(value) != self.outputs) or not np.isfinite(value).all():
                raise ConfigError(
                    f"{name} is a finite number, or one for each of the {self.outputs} outputs, "
                    f"not {value}."
                )
        if not np.greater(self.std, 0).all():
            raise ConfigError(f"std divides the labels and must be above 0, not {self.std}.")
        if self.names and len(self.names) != self.outputs:
            raise ConfigError(
                f"names has {len(self.names)} names for {self.outputs} outputs; give one for each."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The one feature it reads."""
        return (self.feature,)

    @property
    def selection(self) -> tuple[str, Literal["max", "min"]]:
        """The best epoch has the lowest squared error, of several outputs with each in units of
        its own spread."""
        return ("mse" if self.outputs == 1 else "loss"), "min"

    def init(self, rng: Array, features: Features) -> Variables:
        """{"kernel": (D,outputs), "bias": (outputs,)}, no state."""
        return linear.init(rng, linear.vector(features, self.feature), self.outputs)

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
        """Standardised values (B,outputs)."""
        return linear.apply(params, linear.vector(features, self.feature)), state

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Squared error (B,) of the standardised values, a mean over outputs. Raises DataError
        for labels of another shape; nothing is ever broadcast."""
        return jnp.square(outputs - self._targets(outputs, batch)).mean(-1)

    def predict(self, outputs: Array) -> Mapping[str, Array]:
        """`value` (B,) in the label's units; of several outputs each (B,) by its name, `value_1`
        and so on where there are no `names`."""
        values = outputs * jnp.asarray(self.std) + jnp.asarray(self.mean)
        called = ("value",) if self.outputs == 1 else self._called("value")
        return {name: values[..., i] for i, name in enumerate(called)}

    def measure(self, outputs: Array, batch: Batch) -> Mapping[str, Array]:
        """Weighted sums: `n`, and per output (outputs,) of the standardised values `squared` and
        `absolute` error, `target` and `target_squared`."""
        target = self._targets(outputs, batch)
        weight = batch.weight[:, None]
        error = outputs - target
        return {
            "n": weight.sum(),
            "squared": (weight * jnp.square(error)).sum(0),
            "absolute": (weight * jnp.abs(error)).sum(0),
            "target": (weight * target).sum(0),
            "target_squared": (weight * jnp.square(target)).sum(0),
        }

    def report(self, totals: Mapping[str, Any]) -> Mapping[str, float]:
        """`mse`, `rmse`, `mae` in the labels' units and `r2`; of several outputs `r2` as a mean
        over them, and these of each by its name. `loss` is the standardised mse, a mean over
        outputs.

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
        mse, mae = squared * np.square(self.std), absolute * np.asarray(self.std)
        each = {"mse": mse, "rmse": np.sqrt(mse), "mae": mae, "r2": r2}
        if self.outputs == 1:
            return {name: float(v[0]) for name, v in each.items()} | {"loss": float(squared[0])}
        found = {"r2": float(r2.mean()), "loss": float(squared.mean())}
        for i, name in enumerate(self._called("")):
            found |= {f"{metric}_{name}": float(v[i]) for metric, v in each.items()}
        return found

    def in_units(self, params: Params) -> Params:
        """The same layer with outputs in the labels' units."""
        std, mean = np.asarray(self.std, np.float32), np.asarray(self.mean, np.float32)
        return {"kernel": params["kernel"] * std, "bias": params["bias"] * std + mean}

    def _called(self, stem: str) -> tuple[str, ...]:
        """The outputs' names, or numbers from 1 where they have none."""
        numbers = (str(number) for number in range(1, self.outputs + 1))
        return self.names or tuple(f"{stem}_{n}" if stem else n for n in numbers)

    def _targets(self, outputs: Array, batch: Batch) -> Array:
        label = jnp.asarray(batch.targets["label"])
        if label.ndim == 1 and self.outputs == 1:
            label = label[:, None]
        if label.shape != outputs.shape:
            raise DataError(
                f"A regression head with {self.outputs} outputs wants labels of shape "
                f"{outputs.shape}; they are {label.shape}. Set the head's `outputs` to how many "
                f"numbers a label has."
            )
        return (label.astype(outputs.dtype) - jnp.asarray(self.mean)) / jnp.asarray(self.std)
