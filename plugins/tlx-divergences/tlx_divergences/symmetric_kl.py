"""Symmetric KL: Kullback-Leibler in both directions, so neither side is the reference.

`kl` alone forgives a model that gives probability where the source gives none; this does not. It
has no upper bound: for a bounded one take `js`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx_divergences.logits import kl_divergence, log_probability_pair, require_temperature


@final
@dataclass(frozen=True)
class SymmetricKL:
    """T² · (KL(p⁰ ‖ p) + KL(p ‖ p⁰)) in nats, mean per example (and position).

    p = softmax(z/T) of the current logits, p⁰ of the source's. The sum, not its half: Jeffreys'
    divergence (Kullback and Leibler 1951, 'On information and sufficiency', section 2). T² as in
    `kl`.

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
        now, then = log_probability_pair(outputs, source_outputs, "symmetric_kl", self.temperature)
        both = kl_divergence(then, now) + kl_divergence(now, then)
        return self.temperature**2 * both.mean()
