"""A head that is solved for, in place of a phase's steps: the one call into an exact solver.

A solver need not be traceable, so what it returns is known once it has run. It is held against its
contract then, before anything is evaluated or saved with it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tlx import returned, trees
from tlx.cache import Table
from tlx.contracts.calls import calling, has_returned, where
from tlx.errors import ContractError
from tlx.planning.plan import Planned
from tlx.protocols import Solution
from tlx.types import Variables


def solution(
    strategy: str, planned: Planned, variables: Variables, rows: tuple[Table, Table], rng: Array
) -> Solution:
    """What the solver of a phase of `strategy` finds; `rows` are those of the training and
    the validation split. Raises ContractError where it fails, or returns no finite head of the form
    that the model has."""
    solve: Any = planned.phase.solve
    who = f"The solver of phase {planned.phase.name!r} of the strategy {strategy!r}"
    train, val = (split.examples() for split in rows)
    with calling(who, solve):
        found = solve(planned.model, variables, train, val, rng=rng)
    fine = isinstance(found, Solution) and isinstance(found.note, str)
    has_returned(who, solve, found, fine, "tlx.protocols.Solution(head, note), a note in words")
    head, its = found.head, f"{who}, as the head,"
    returned.alike(returned.arrays(head, its, solve), variables.params["head"], its, solve)
    for path, leaf in trees.flat(head).items():
        if wrong := int(leaf.size - jnp.isfinite(leaf).sum()):
            raise ContractError(
                f"{who}{where(solve)} returns a head whose {path!r} has {wrong:,} numbers that are "
                f"not finite. A solver that finds no answer has to say why (DivergedError)."
            )
    return Solution(jax.tree.map(jnp.asarray, head), found.note)
