"""Jensen-Shannon: how far two predictions are from their average.

Symmetric like `symmetric_kl`, but bounded: two predictions that share no class are ln 2 apart and
no further, so that a few pictures on which the models disagree completely do not rule the batch.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from tlx_divergences.logits import kl_divergence, log_probability_pair


def js(*, outputs: Array, source_outputs: Array) -> Array:
    """½ KL(p ‖ m) + ½ KL(p⁰ ‖ m) in nats with m = (p + p⁰)/2, mean per example (and position).

    p = softmax(z) of the current logits (B,...,C), p⁰ of the source's. 0 where they are equal, at
    most ln 2; its square root is a metric (Lin 1991, 'Divergence measures based on the Shannon
    entropy'; Endres and Schindelin 2003). Raises ConfigError for logits over different
    classes, or over fewer than two.
    """
    now, then = log_probability_pair(outputs, source_outputs, "js")
    middle = jnp.logaddexp(now, then) - jnp.log(2.0)
    return ((kl_divergence(now, middle) + kl_divergence(then, middle)) / 2).mean()
