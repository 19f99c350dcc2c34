"""What a divergence wants to know of every training example, computed once before the first step.

The values are those of the un-augmented picture in mode 'eval' with the numbers that the run
starts from. A step finds those of its batch by the examples' numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx import returned
from tlx.contracts.calls import calling
from tlx.errors import ContractError, listed
from tlx.objective import Objective, Term
from tlx.protocols import Records
from tlx.quantities import PER_EXAMPLE, asked
from tlx.stream import closing_batches
from tlx.types import Batch, Constants, PyTree, Variables


def needs(term: Term) -> frozenset[str]:
    """Every word that a term asks for, in a step or beforehand.

    Raises ContractError where it records something that does not belong to single examples."""
    if not isinstance(term.divergence, Records):
        return term.words
    words = asked(term.divergence.record, f"{term.name}.record")
    if wrong := sorted(words - PER_EXAMPLE):
        raise ContractError(
            f"Divergence {term.name!r} records from {listed(wrong)}, which belong to no single "
            f"example. Words for `record`: {listed(sorted(PER_EXAMPLE))}."
        )
    return term.words | words


def every_record(
    objective: Objective,
    variables: Variables,
    constants: Constants,
    batches: Callable[[], Iterable[Batch]],
) -> dict[str, Any]:
    """`record` of every divergence that wants to know something beforehand, by its name."""
    return {
        term.name: record(objective, term, variables, constants, batches())
        for term in objective.terms
        if isinstance(term.divergence, Records)
    }


def record(
    objective: Objective,
    term: Term,
    variables: Variables,
    constants: Constants,
    batches: Iterable[Batch],
) -> Mapping[str, PyTree]:
    """`index` (N,), sorted, and `values`, what the term's `record` returned for each (N,...)."""
    divergence = term.divergence
    assert isinstance(divergence, Records)
    recording: Any = divergence.record  # asks for words as a divergence does
    asking = Term(term.name, recording, term.source)

    @jax.jit
    def kept(variables: Variables, constants: Constants, batch: Batch) -> Mapping[str, Any]:
        key, done = jax.random.key(0), jnp.float32(0)
        forward = objective.forward(
            objective.model, variables, batch, constants, rng=key, mode="eval", progress=done
        )
        words = objective.words(
            asking, variables, batch, constants, forward, (key, key), done
        )  # fmt: skip
        who = f"`record` of the divergence {term.name!r}"
        with calling(who, divergence.record, words):
            found = divergence.record(**words)
        return returned.rows(found, len(batch.weight), who, divergence.record)

    index, values = [], []
    with closing_batches(batches) as each:
        for batch in each:
            real = np.flatnonzero(np.asarray(batch.weight))
            found = jax.device_get(kept(variables, constants, batch))
            index.append(np.asarray(batch.index)[real])
            values.append(jax.tree.map(lambda leaf, real=real: leaf[real], found))
    numbers = np.concatenate(index)
    order = np.argsort(numbers)
    table = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[order]), *values)
    return {"index": jnp.asarray(numbers[order]), "values": table}
