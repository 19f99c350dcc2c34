"""What is silently wrong in the passes of a phase, said before the first step.

What the traced passes of a strategy (`tlx.planning.traced_passes`) tell is held against what is
saved, against what is kept of frozen stages, and against what is called trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlx import trees
from tlx.contracts.calls import where
from tlx.errors import ContractError, listed
from tlx.extension import added_features
from tlx.objective import Objective
from tlx.planning.plan import Planned
from tlx.quantities import OF_FEATURES

if TYPE_CHECKING:
    from tlx.planning.traced_passes import Passes, Tested


def refuse_unsaved(planned: Planned, given: Passes, tested: Tested) -> None:
    """Outputs in mode 'eval' are made by what is saved: backbone, head and the hooks of a model."""
    who = (
        f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
        f"{where(planned.phase.forward)}"
    )
    if tested.others:
        raise ContractError(
            f"{who} makes its outputs with {listed(sorted(tested.others))}, which would be tested "
            f"and is no part of the model that is saved: backbone and head. Let it use these in "
            f"its loss alone, learn a change to the backbone with `effective`, or one to its "
            f"inputs or features with `change_inputs` or `change_features` (tlx.protocols), which "
            f"are saved with the model."
        )
    needs = planned.model.head.needs if planned.model.head is not None else ()
    if extra := tested.of_outputs - set(needs):
        raise ContractError(
            f"{who} makes its outputs with the features {listed(sorted(extra))}, and the head "
            f"reads {listed(needs)} alone: what is saved would predict otherwise than it was "
            f"tested. Give the head other features, make one of them with `change_features` "
            f"(tlx.protocols), or use these in the loss alone."
        )


def refuse_unkept(
    planned: Planned, objective: Objective, given: Passes, read: frozenset[str]
) -> None:
    """What a cached prefix holds is what the head needs and the phase `reads`, unless a divergence
    asks for more."""
    head, reads = planned.model.head, planned.phase.reads
    if head is None or any(term.words & OF_FEATURES for term in objective.terms):
        return
    added = {spec.name for spec in added_features(planned.model.extension)}
    kept = tuple(dict.fromkeys((*head.needs, *reads)))
    if extra := sorted(read - set(kept) - added):
        raise ContractError(
            f"The forward of phase {planned.phase.name!r} of the strategy {given.strategy!r}"
            f"{where(planned.phase.forward)} reads the features {listed(extra)}, and of "
            f"frozen stages only those that the head needs{' and the phase reads' if reads else ''}"
            f" are kept: {listed(kept)}. Name them in the Phase, reads = {(*reads, *extra)!r}; or "
            f"set cache_gb = 0 to compute all of them at every step."
        )


def refuse_untrained(phases: Sequence[Planned], given: Passes, alive: frozenset[str]) -> None:
    """Of the strategy's own leaves that move each has a gradient somewhere, and of a head's one."""
    moving = {
        path for planned in phases for path, moves in trees.flat(planned.trainable).items() if moves
    }
    steps = [planned for planned in phases if planned.phase.solve is None]
    if not steps:
        return
    dead = sorted(path for path in moving - alive if path.startswith("strategy/"))
    head = {path for path in moving if path.startswith("head/")}
    if not dead and head and not head & alive and len(steps) == len(phases):
        dead = sorted(head)
    if dead:
        raise ContractError(
            f"The strategy {given.strategy!r}{where(phases[0].phase.forward)} would train "
            f"{listed(dead[:3])}{', ...' if len(dead) > 3 else ''}, which has a gradient in no "
            f"phase: the loss does not depend on it. Put it into the group 'frozen', or leave it "
            f"out."
        )
