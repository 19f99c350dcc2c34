"""How far into a backbone anybody reads, so that it can end there.

A head says what it needs; everything else (divergences, the forward passes of a strategy, sources,
a second domain) is traced once, and what remains of the features when all that leads to no loss is
dropped is what was read. Whoever works with masks reads the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from tlx.backbones.shortened import stages_of
from tlx.model import FEATURE, MASKED, Model, input_shape
from tlx.objective import Objective
from tlx.types import Batch, Constants, Variables
from tlx.weights.ending import needed, stages_with


def read(
    model: Model,
    objectives: Iterable[Objective],
    variables: Variables,
    constants: Constants,
    batch: Batch,
) -> int:
    """How many stages anybody reads while a run trains; `batch` and numbers may be shapes."""
    depth, shape = len(stages_of(model.backbone)), input_shape(model.inputs, batch)
    least = needed(model, shape)
    if not depth or (model.head is not None and least == depth):
        return depth
    names: set[str] = set(model.head.needs if model.head else ())
    for objective in objectives:
        for tag in _tags(objective, variables, constants, batch):
            if tag.startswith(MASKED):
                return depth
            names.add(tag.removeprefix(FEATURE))
    return stages_with(model, shape, names)


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
