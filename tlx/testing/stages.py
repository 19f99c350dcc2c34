"""Stages one after the other, as a frozen prefix and what is trained above it run apart."""

from __future__ import annotations

from functools import partial
from typing import Any

from jax import Array

from tlx.protocols import Backbone, Staged
from tlx.testing.claims import claim_same
from tlx.testing.compiling import quick_jit
from tlx.types import Features, Mode, Params, State, Variables


def in_turn(
    staged: Staged, params: Params, state: State, x: Any, *, rng: Array, mode: Mode
) -> tuple[list[Features], State]:
    """The features that arise in each stage, and the state after the last."""
    carry, found = x, []
    for number in range(len(staged.stages)):
        carry, features, state = staged.apply_stages(
            params, state, carry, start=number, stop=number + 1, rng=rng, mode=mode
        )
        found.append(features)
    return found, state


def same_in_turn(
    backbone: Backbone, variables: Variables, x: Any, *, rng: Array, mode: Mode
) -> tuple[list[Features], State]:
    """What `in_turn` returns. ContractError unless these are the bits that `apply` gives."""
    assert isinstance(backbone, Staged)
    run = partial(quick_jit, static_argnames="mode")
    wanted, whole = run(backbone.apply)(*variables, x, rng=rng, mode=mode)
    found, state = run(partial(in_turn, backbone))(*variables, x, rng=rng, mode=mode)
    every = {name: value for features in found for name, value in features.items()}
    claim_same((every, state), (dict(wanted), whole), f"The stages in turn in mode {mode!r}")
    return found, state
