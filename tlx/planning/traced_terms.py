"""Every divergence by itself, traced once when a run is assembled: no numbers, nothing compiled.

What it gets are the shapes that a step of this run would give it. So whatever it returns wrongly or
raises is said before the first step, and so is one that could move nothing: its gradient does not
reach what moves in any phase, or is zero whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from tlx import trees
from tlx.contracts.calls import calling, where
from tlx.devices.flows import slopes
from tlx.errors import ConfigError, ContractError, listed
from tlx.objective import Objective, Term
from tlx.planning.plan import Planned
from tlx.planning.refusals import MOVED_BY
from tlx.planning.traced_passes import Trained


def check(phases: Sequence[tuple[Planned, Objective]], passes: Sequence[Trained]) -> None:
    """Raises ContractError for a divergence that fails, that returns anything but one floating
    number, or that is the same whatever the model does; ConfigError for one that depends on nothing
    that moves in any phase. `passes` are all that differ among those of the phases."""
    phases = [(planned, objective) for planned, objective in phases if not planned.phase.solve]
    terms = phases[0][1].terms if phases else ()
    moved: set[str] = set()
    for passed in passes:
        same = [one for one, _ in phases if one.phase.forward == passed.forward]
        moving = {
            path
            for planned in same
            for path, moves in trees.flat(planned.trainable).items()
            if moves and not path.startswith("divergence/")
        }
        for term in terms if same else ():
            if term.name not in moved and _moves(term, passed, moving):
                moved.add(term.name)
    for term in terms:
        if term.name not in moved:
            words = sorted(term.words & MOVED_BY.keys())
            raise ConfigError(
                f"Divergence {term.name!r} would have no effect: what it reads of {listed(words)} "
                f"does not depend on anything that moves in any phase of this strategy. Leave it "
                f"out, let it read what lies deeper, or choose a strategy that moves more."
            )


def _moves(term: Term, passed: Trained, moving: set[str]) -> bool:
    """Whether the gradient of a term reaches what moves."""
    shapes, reached = passed.shapes[term.name], passed.reached[term.name]
    words = {word: shapes[word] for word in shapes if word in MOVED_BY}
    rest = {word: shapes[word] for word in shapes if word not in MOVED_BY}
    with calling(f"The divergence {term.name!r}", term.divergence):
        has = slopes(lambda words, rest: term.value({**words, **rest}), words, rest)
    if not any(jax.tree.leaves(has)):
        raise ContractError(
            f"The divergence {term.name!r}{where(term.divergence)} would have no effect: its "
            f"gradient is zero, whatever the numbers are. A count, a rounded number, a constant "
            f"and what stands behind stop_gradient have none."
        )
    known = {word: reached[word] for word in words}
    return any(
        a and not b.isdisjoint(moving)
        for a, b in zip(*map(jax.tree.leaves, (has, known)), strict=True)
    )
