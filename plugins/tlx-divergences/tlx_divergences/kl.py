"""KL: how far the predicted probabilities are from the source's for the same pictures.

Learning without forgetting and knowledge distillation in one: the source's soft answers are the
target, and a temperature above 1 lets its small probabilities count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError


@final
@dataclass(frozen=True)
class KL:
    """T² · KL(softmax(z⁰/T) ‖ softmax(z/T)) in nats, mean per example.

    z are the current logits, z⁰ the source's. T² keeps the gradient's size independent of T
    (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).

    Args:
        temperature: T; 1 compares the probabilities as they are, 2 is that of learning without
            forgetting (arXiv:1606.09282).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a temperature that is not above 0."""
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature}.")

    def __call__(self, *, outputs: Array, source_outputs: Array) -> Array:
        """A scalar for logits (B,...,C), 0 where both give the same probabilities. Raises
        ConfigError for logits over different classes, or over fewer than two."""
        if outputs.shape != source_outputs.shape or outputs.ndim < 2 or outputs.shape[-1] < 2:
            raise ConfigError(
                f"kl compares logits over the same two or more classes; here they are "
                f"{outputs.shape} and the source's {source_outputs.shape}. Hold features with "
                f"feature_l2 or weights with l2_sp instead."
            )
        now = jax.nn.log_softmax(outputs / self.temperature)
        then = jax.nn.log_softmax(source_outputs / self.temperature)
        return self.temperature**2 * jnp.sum(jnp.exp(then) * (then - now), -1).mean()
