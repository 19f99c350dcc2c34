"""Every divergence by itself, traced once when a run is assembled: no numbers, nothing compiled.

What it gets are the shapes that a step of this run would give it. So whatever it returns wrongly or
raises is said before the first step, and so is one that could move nothing: its gradient does not
reach what moves in any phase, or is zero whatever the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tlx import trees
from tlx.contracts.calls import where
from tlx.devices.flows import flows, slopes
from tlx.errors import ConfigError, ContractError, listed
from tlx.objective import Objective, Term
from tlx.planning.plan import Planned
from tlx.planning.refusals import MOVED_BY
from tlx.planning.traced_passes import Passes
from tlx.types import PyTree


def check(phases: Sequence[tuple[Planned, Objective]], given: Passes) -> None:
    """Raises ContractError for a divergence that fails, that returns anything but one floating
    number, or that is the same whatever the model does; ConfigError for one that depends on nothing
    that moves in any phase."""
    phases = [(planned, objective) for planned, objective in phases if not planned.phase.solve]
    terms = phases[0][1].terms if phases else ()
    moved: set[str] = set()
    for planned, objective in _distinct(phases):
        trainable = _trainable(planned, phases)
        shapes, reached = _words(objective, trainable, given)
        for term in terms:
            if term.name not in moved and _moves(term, shapes[term.name], reached[term.name]):
                moved.add(term.name)
    for term in terms:
        if term.name not in moved:
            words = sorted(term.words & MOVED_BY.keys())
            raise ConfigError(
                f"Divergence {term.name!r} would have no effect: what it reads of {listed(words)} "
                f"does not depend on anything that moves in any phase of this strategy. Leave it "
                f"out, let it read what lies deeper, or choose a strategy that moves more."
            )


def _distinct(
    phases: Sequence[tuple[Planned, Objective]],
) -> list[tuple[Planned, Objective]]:
    """Of the phases that feed the model in the same way, the one that freezes least of it."""
    found: dict[Any, tuple[Planned, Objective]] = {}
    for planned, objective in phases:
        before = found.get(planned.phase.forward)
        if before is None or planned.model.frozen < before[0].model.frozen:
            found[planned.phase.forward] = planned, objective
    return list(found.values())


def _trainable(planned: Planned, phases: Sequence[tuple[Planned, Objective]]) -> PyTree:
    """What moves in any phase that feeds the model as this one does."""
    masks = [one.trainable for one, _ in phases if one.phase.forward == planned.phase.forward]
    return jax.tree.map(lambda *bits: any(bits), *masks)


def _words(
    objective: Objective,
    trainable: PyTree,
    given: Passes,
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Of each term its words as shapes, and for each of their leaves whether what moves reaches
    it."""

    def seen(params: Any, state: Any, batch: Any, constants: Any, key: Any, done: Any) -> Any:
        found = objective.seen(params, state, batch, constants, rng=key, progress=done)
        return found.words

    key = jax.eval_shape(lambda: jax.random.key(0))
    done = jax.ShapeDtypeStruct((), jnp.float32)
    reached, shapes = flows(seen, *given.variables, given.batch, given.constants, key, done)
    flat = enumerate(trees.flat(trainable).items())
    moving = {
        number for number, (path, moves) in flat if moves and not path.startswith("divergence/")
    }
    return shapes, jax.tree.map(lambda found: bool(found & moving), reached, is_leaf=_labels)


def _moves(term: Term, shapes: Mapping[str, Any], reached: Mapping[str, Any]) -> bool:
    """Whether the gradient of a term reaches what moves."""
    words = {word: shapes[word] for word in shapes if word in MOVED_BY}
    rest = {word: shapes[word] for word in shapes if word not in MOVED_BY}
    slope, _ = slopes(lambda words, rest: term.value({**words, **rest}), words, rest)
    has = jax.tree.map(bool, slope, is_leaf=_labels)
    if not any(jax.tree.leaves(has)):
        raise ContractError(
            f"The divergence {term.name!r}{where(term.divergence)} would have no effect: its "
            f"gradient is zero, whatever the numbers are. A count, a rounded number, a constant "
            f"and what stands behind stop_gradient have none."
        )
    known = {word: reached[word] for word in words}
    return any(a and b for a, b in zip(*map(jax.tree.leaves, (has, known)), strict=True))


def _labels(found: Any) -> bool:
    return isinstance(found, frozenset)
