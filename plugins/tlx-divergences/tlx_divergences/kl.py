"""KL: how far the predicted probabilities are from the source's for the same pictures.

The source's answers are the target, so the model is asked to give probability wherever the source
does. A temperature above 1 lets the source's small probabilities count, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx_divergences.logits import kl_divergence, log_probability_pair, require_temperature


@final
@dataclass(frozen=True)
class KL:
    """T² · KL(softmax(z⁰/T) ‖ softmax(z/T)) in nats, mean per example (and position).

    z are the current logits, z⁰ the source's. T² keeps the gradient's size independent of T
    (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2); at T = 1 this is the plain
    Kullback-Leibler divergence. `distillation` is the same with a higher temperature.

    Args:
        temperature: T; 1 compares the probabilities as they are.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a temperature that is not above 0."""
        require_temperature(self.temperature)

    def __call__(self, *, outputs: Array, source_outputs: Array) -> Array:
        """A scalar for logits (B,...,C), 0 where both give the same probabilities. Raises
        ConfigError for logits over different classes, or over fewer than two."""
        now, then = log_probability_pair(outputs, source_outputs, "kl", self.temperature)
        return self.temperature**2 * kl_divergence(then, now).mean()
