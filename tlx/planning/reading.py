"""How far into a backbone anybody reads, so that it can end there.

A head says what it needs; everything else (divergences, the forward passes of a strategy, sources,
a second domain) is traced once, and what remains of the features when all that leads to no loss is
dropped is what was read. What a divergence computes beforehand cannot be traced: it declares what
it reads, or has the whole, and so has whoever works with masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from tlx.contracts.calls import calling
from tlx.errors import ConfigError
from tlx.model import FEATURE, MASKED
from tlx.objective import Objective, Term
from tlx.planning.plan import plan
from tlx.planning.start import Start, works_beforehand
from tlx.protocols import Reads
from tlx.types import Batch, Constants, Variables


def read(
    objectives: Iterable[Objective],
    strategy: str,
    variables: Variables,
    constants: Constants,
    batch: Batch,
) -> Mapping[str, frozenset[str]] | None:
    """Names of the features that anybody reads while a run trains, by whose they are (see
    `Model.whose`); None where masks hide what is read. `batch` and numbers may be shapes."""
    found: dict[str, set[str]] = {}
    for objective in objectives:
        with calling(f"`forward` of the strategy {strategy!r}", objective.forward):
            tags = [*_tags(objective, variables, constants, batch)]
        for tag in tags:
            if tag.startswith(MASKED):
                return None
            whose, _, name = tag.removeprefix(FEATURE).partition("/")
            found.setdefault(whose, set()).add(name)
    return {whose: frozenset(names) for whose, names in found.items()}


def declared(terms: Iterable[Term]) -> frozenset[str] | None:
    """What divergences that have numbers beforehand say that they read; None where one does not."""
    names: set[str] = set()
    for term in filter(works_beforehand, terms):
        said = term.divergence.reads if isinstance(term.divergence, Reads) else None
        if said is None:
            return None
        names |= set(said)
    return frozenset(names)


def names_above(start: Start, steps: int) -> bool:
    """Whether the strategy names a stage, or a leaf, that a network which ends early has not."""
    training = replace(start.model, precision=start.config.precision)
    try:
        plan(start.strategy, training, start.begun().params, steps)
    except ConfigError:
        return True
    return False


def _tags(
    objective: Objective, variables: Variables, constants: Constants, batch: Batch
) -> Iterator[str]:
    """The features of any model that the loss, the measures or what is kept beside the backbone
    depend on."""

    def wanted(params: Any, state: Any, batch: Any, constants: Any) -> Any:
        loss, (after, metrics) = objective(
            params, state, batch, constants, rng=jax.random.key(0), progress=jnp.float32(0.5)
        )
        return loss, {k: v for k, v in after.items() if k != "backbone"}, metrics

    traced = jax.make_jaxpr(wanted)(variables.params, variables.state, batch, constants).jaxpr
    left, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    yield from _names(left)


def _names(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name = equation.params.get("name") if equation.primitive.name == "name" else None
        if isinstance(name, str) and name.startswith((FEATURE, MASKED)):
            yield name
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _names(inner)
