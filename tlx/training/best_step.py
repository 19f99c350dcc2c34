"""The best step: when an evaluation is better than all before it, and how a run remembers that.

The ledger is part of the training state: the best value so far, the loss and the step that it
belongs to, and how many evaluations there have been since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx.planning.plan import Planned


def ahead(
    direction: str, value: Any, loss: Any, best: Any, best_loss: Any, *, of_solved: bool = False
) -> bool:
    """Whether an evaluation is better than the best so far.

    Of equals the one with the lower loss is better: an accuracy on a few dozen pictures has few
    values, and the first step to reach one is rarely the best of them. `of_solved`: the best so far
    is the one exact head, which is outdone by a lower loss alone: the luckiest of many steps on a
    few pictures is not better than it."""
    if of_solved and not loss < best_loss:
        return False
    further = value > best if direction == "max" else value < best
    sound = np.isfinite(value) and not np.isnan(loss)  # an accuracy is finite whatever it is of
    return bool(sound) and bool(further or (value == best and loss < best_loss))


def is_solved(phases: Sequence[Planned], step: Any) -> bool:
    """Whether the head of a step was solved for."""
    step = int(step)
    return any(p.phase.solve is not None and p.start < step <= p.stop for p in phases)


def entered(
    ledger: Mapping[str, Any], step: int, value: Any, loss: Any, *, better: bool
) -> Mapping[str, Any]:
    """The ledger after an evaluation of `step`."""
    if not better:
        return {**ledger, "since": ledger["since"] + 1}
    return {
        **ledger,
        "best": jnp.float32(value),
        "best_loss": jnp.float32(loss),
        "best_step": jnp.int32(step),
        "since": jnp.int32(0),
    }
