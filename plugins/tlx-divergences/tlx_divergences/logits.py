"""Logits that are compared: checked shapes, softened probabilities, and the one KL.

Every divergence between predicted probabilities goes through these few lines: the logits of both
sides must be over the same classes, a temperature softens them, and the difference is counted in
nats for each example. Log-probabilities are kept in float32 or better.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx_divergences.not_below import not_below_zero


def log_probabilities(logits: Any, divergence: str, whose: str, temperature: float = 1.0) -> Array:
    """log softmax(z/T) of logits (B,...,C). ConfigError where they are no logits over two or more
    classes; `whose` says which ones they are."""
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) < 2 or shape[-1] < 2:
        seen = "none (there is no head)" if logits is None else shape or type(logits).__name__
        raise ConfigError(
            f"{divergence} compares logits (B,...,C) over two or more classes; {whose} are {seen}. "
            f"Hold features with feature_l2 or weights with l2_sp instead."
        )
    return jax.nn.log_softmax(
        logits.astype(jnp.promote_types(logits.dtype, "float32")) / temperature
    )


def log_probability_pair(
    now: Any, then: Any, divergence: str, temperature: float = 1.0
) -> tuple[Array, Array]:
    """`log_probabilities` of the model and of the source; ConfigError where their shapes differ."""
    log_p = log_probabilities(now, divergence, "the model's", temperature)
    log_q = log_probabilities(then, divergence, "the source's", temperature)
    if log_p.shape != log_q.shape:
        raise ConfigError(
            f"{divergence} compares logits over the same classes; here they are {log_p.shape} and "
            f"the source's {log_q.shape}. Hold features with feature_l2 or weights with l2_sp, or "
            f"let the source keep its own classes with lwf or co_tuning."
        )
    return log_p, log_q


def kl_divergence(log_p: Array, log_q: Array) -> Array:
    """KL(p ‖ q) = Σ_c p_c (log p_c − log q_c) in nats, (B,...) from log-probabilities (B,...,C)."""
    return not_below_zero(jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1))


def require_temperature(temperature: float) -> None:
    """ConfigError for a temperature that is not a finite number above 0."""
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"temperature must be a finite number above 0, not {temperature}.")
