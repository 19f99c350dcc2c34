"""A teacher that is a moving average of its student, the mean teacher.

xi <- tau xi + (1 - tau) theta after every step, with tau rising from where it starts to 1 along
half a cosine (Grill et al. 2020, BYOL, arXiv:2006.07733, section 3.1 and appendix B; Tarvainen and
Valpola 2017, arXiv:1703.01780). It lives in the strategy's state; its batch norms normalise by what
passes through it and have running statistics of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.types import Mode, Params, PyTree, State, Variables
from tlx_strategies.embedding import embed


def check_momentum(momentum: float) -> None:
    """Raise ConfigError for what is no share."""
    if not 0 <= momentum <= 1:
        raise ConfigError(
            f"momentum is the share of itself that the teacher keeps at first, from 0 (it is the "
            f"student) to 1 (it never moves), not {momentum}."
        )


def begin(params: Params, state: State, parts: Sequence[str]) -> State:
    """The state with a teacher that equals the student: `params` and `state` of the backbone and
    of the strategy's `parts`."""
    teacher = {"params": _of(params, parts), "state": _of(state, parts)}
    return with_teacher(state, teacher)


def follow(params: Params, state: State, *, start: float, progress: Array) -> State:
    """The state once the teacher has followed the student's parameters one step."""
    old = state["strategy"]["teacher"]
    new = _of(params, tuple(old["params"]["strategy"]))
    keep = momentum(start, progress)

    def moved(then: Array, now: Array) -> Array:
        # From the difference, so that it rests exactly where the student does.
        return (then + (1 - keep) * (now - then)).astype(then.dtype)

    return with_teacher(state, {**old, "params": jax.tree.map(moved, old["params"], new)})


def momentum(start: float, progress: Array) -> Array:
    """1 - (1 - start) (cos(pi progress) + 1) / 2: from `start` to 1."""
    return 1 - (1 - start) * (jnp.cos(jnp.pi * progress) + 1) / 2


def target(
    model: Model, state: State, views: Array, weight: Array, *, rng: Array, mode: Mode
) -> tuple[Array, State]:
    """The teacher's embeddings (V,B,D) of views, which no gradient goes through, and the state with
    its batch statistics after the pass."""
    own = state["strategy"]["teacher"]
    seen = embed(model, Variables(own["params"], own["state"]), views, weight, rng=rng, mode=mode)
    return jax.lax.stop_gradient(seen.z), with_teacher(state, {**own, "state": seen.state})


def with_teacher(state: State, teacher: PyTree) -> State:
    """The state with this teacher, {'params', 'state'}."""
    return {**state, "strategy": {**state.get("strategy", {}), "teacher": teacher}}


def _of(tree: PyTree, parts: Sequence[str]) -> dict[str, Any]:
    own = tree.get("strategy", {})
    return {
        "backbone": tree["backbone"],
        "strategy": {part: own[part] for part in parts if part in own},
    }
