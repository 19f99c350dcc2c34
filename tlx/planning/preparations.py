"""What a divergence has before the first step: numbers of its own, and what it prepares.

Both are calls into a plugin, made once while a run is assembled.
"""

from __future__ import annotations

from collections.abc import Iterable

from jax import Array

from tlx.contracts.calls import calling
from tlx.model import Model
from tlx.objective import Term
from tlx.planning import returned
from tlx.protocols import Learns, Prepares
from tlx.types import Batch, Network, PyTree, Variables


def init(term: Term, model: Model, source: Network | None, batch: Batch, rng: Array) -> Variables:
    """The divergence's own parameters and state. Raises ContractError where it fails."""
    divergence, who = term.divergence, f"`init` of the divergence {term.name!r}"
    assert isinstance(divergence, Learns)
    with calling(who, divergence.init):
        found = divergence.init(model=model, source=source, batch=batch, rng=rng)
    return returned.variables(found, who, divergence.init)


def prepare(
    term: Term,
    model: Model,
    variables: Variables,
    source: Network | None,
    batches: Iterable[Batch],
    rng: Array,
) -> PyTree:
    """What the divergence prepares. Raises ContractError where it fails."""
    divergence, who = term.divergence, f"`prepare` of the divergence {term.name!r}"
    assert isinstance(divergence, Prepares)
    with calling(who, divergence.prepare):
        found = divergence.prepare(
            model=model, variables=variables, source=source, batches=batches, rng=rng
        )
    return returned.arrays(found, who, divergence.prepare)
