"""One random key per example: what is drawn for a picture, in training and in evaluation.

While training the keys come from the pass's own key. In mode 'eval' they come from the example's
number, so a picture is treated alike in any batch, in any epoch and in any run, and two losses on
the same split can be compared.
"""

from __future__ import annotations

import jax
from jax import Array

from tlx.types import Batch, Mode


def example_keys(batch: Batch, rng: Array, mode: Mode) -> Array:
    """(B,) keys. `rng` decides them, but for mode 'eval', where the batch's `index` (B,) does."""
    if mode == "eval":
        return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(batch.index)
    return jax.random.split(rng, len(batch.index))
