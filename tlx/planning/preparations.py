"""What plugins have before the first step: numbers of their own, and what they prepare.

Each is a call into a plugin, made once while a run is assembled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

import jax
import jax.numpy as jnp
from jax import Array

from tlx import returned
from tlx.contracts.calls import called, calling, has_returned, where
from tlx.errors import ContractError
from tlx.extension import init_own
from tlx.model import Model
from tlx.objective import Term
from tlx.protocols import Averages, Explains, HasSetup, Learns, Prepares, Strategy
from tlx.stream import closing_batches
from tlx.types import Batch, Network, PyTree, Variables
from tlx.weights.initial import with_part


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
    with calling(who, divergence.prepare), closing_batches(batches) as each:
        found = divergence.prepare(
            model=model, variables=variables, source=source, batches=each, rng=rng
        )
    return returned.arrays(found, who, divergence.prepare)


def begun(
    name: str, strategy: Strategy, model: Model, variables: Variables, batch: Batch, rng: Array
) -> Variables:
    """The variables with the strategy's own, as it begins. Raises ContractError where it fails."""
    own = init_own(strategy, repr(name), model, rng, batch)
    variables = with_part(variables, "strategy", own)
    if not isinstance(strategy, Averages):
        return variables
    who = f"`begin` of the strategy {name!r}"
    with calling(who, strategy.begin):
        began = strategy.begin(variables.params, variables.state)
    returned.arrays(began, who, strategy.begin)
    return Variables(variables.params, jax.tree.map(jnp.copy, began))


def set_up(
    name: str,
    strategy: HasSetup,
    model: Model,
    variables: Variables,
    batches: Callable[[], Iterable[Batch]],
    rng: Array,
) -> Strategy:
    """What the strategy makes of itself at the sight of numbers and data. Raises ContractError
    where it fails, or returns what is no strategy."""
    who = f"`setup` of the strategy {name!r}"
    with calling(who, strategy.setup), ExitStack() as opened:

        def each() -> Iterable[Batch]:
            return opened.enter_context(closing_batches(batches()))

        found = strategy.setup(model=model, variables=variables, batches=each, rng=rng)
    good = isinstance(found, Strategy) and not isinstance(found, type)
    wanted = "the strategy that the run goes on with"
    has_returned(
        who, strategy.setup, found, good, wanted, "Usually dataclasses.replace(self, ...)."
    )
    try:
        hash(found)
    except TypeError as error:
        raise ContractError(
            f"{who}{where(strategy.setup)} returns a strategy that does not hash ({error}): its "
            f"fields are its configuration. Give tuples in place of lists, and hold arrays for "
            f"`init` in a field(compare=False)."
        ) from error
    return found


def notes(strategy: Strategy, model: Model) -> tuple[str, ...]:
    """What a strategy has to say of how it treats a model."""
    if not isinstance(strategy, Explains):
        return ()
    with called(strategy, "strategy", "notes"):
        return tuple(strategy.notes(model))
