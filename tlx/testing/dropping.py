"""Modes of a network with dropout: does each of the three do its own, and nothing else?

Mode 'tune' is 'eval' with dropout, and 'train' differs from it by its batch statistics. The kit
cannot ask this of every backbone; a wrapper can, with a network that is known to have both.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tlx.testing.claims import claim, claim_same
from tlx.types import Mode, Variables


def separates_modes(apply: Any, variables: Variables, x: Any, rate: float) -> None:
    """ContractError unless the feature `pooled`, which ends in dropout of `rate` somewhere behind
    a batch norm, is in each mode what it should be, and the state moves in mode 'train' alone.

    `apply` is the backbone's, compiled. The state must not have seen `x` (B,H,W,C) alone."""
    params, state = variables

    def pooled(mode: Mode, seed: int) -> tuple[np.ndarray, Any]:
        features, new = apply(params, state, x, rng=jax.random.key(seed), mode=mode)
        return np.asarray(features["pooled"]), new

    (train, moved), (other_train, _) = pooled("train", 1), pooled("train", 2)
    (tune, kept), (other_tune, _) = pooled("tune", 1), pooled("tune", 2)
    still, also_kept = pooled("eval", 1)
    claim_same(kept, state, "The state after mode 'tune'")
    claim_same(also_kept, state, "The state after mode 'eval'")
    stays = jax.tree.map(lambda a, b: np.array_equal(a, b), moved, state)
    claim(not all(jax.tree.leaves(stays)), "Mode 'train' moved no running statistic.")
    claim_same(pooled("train", 1)[0], train, "Two passes with the same key")
    dropped, seen = (tune == 0) & (still != 0), still != 0
    share = dropped.sum() / seen.sum()
    claim(0.5 * rate < share < 1.5 * rate, f"Mode 'tune' dropped {share:.0%}, not {rate:.0%}.")
    claim((dropped != dropped[0]).any(), "Every example lost the same units.")
    claim(
        np.allclose(tune[tune != 0], still[tune != 0] / (1 - rate), rtol=1e-5),
        "Mode 'tune' is not mode 'eval' with dropout.",
    )
    claim(not np.array_equal(tune == 0, other_tune == 0), "Another key dropped the same units.")
    alive = seen & (other_train != 0)  # what is zero here was dropped, by no activation
    claim(
        np.array_equal(train[alive] == 0, tune[alive] == 0),
        "With the same key 'train' and 'tune' dropped different units.",
    )
    claim(not np.allclose(train, tune), "Modes 'train' and 'tune' used the same statistics.")
