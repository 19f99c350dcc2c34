"""Which outputs of a program its inputs reach, and what is zero whatever they are.

One pass over a traced program, first equation to last, so it holds for anybody's network and loss.
Of a gradient's program it tells which numbers move what: a leaf whose gradient is not reached by
what is differentiated has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from tlx.types import PyTree

Labels: TypeAlias = frozenset[int]
NONE: Labels = frozenset()
ZERO = -1
"""Among the labels of a value: it is zero wherever it is reached."""

_PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})
_STAYS_ZERO = frozenset(
    {
        "neg", "broadcast_in_dim", "reshape", "transpose", "convert_element_type", "reduce_sum",
        "squeeze", "slice", "rev", "copy", "copy_p", "reduce_precision", "cumsum", "real", "imag",
        "sign", "abs", "add", "add_any", "sub", "concatenate", "pad", "integer_pow", "sqrt",
    }
)  # fmt: skip
"""What is zero where all that goes in is zero."""
_SAME_PROGRAM = frozenset({"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint"})
"""What runs a program of its own on its operands, as they are."""


def flows(function: Callable[..., Any], *arguments: Any) -> tuple[PyTree, PyTree]:
    """(for each output the numbers of the leaves of `arguments` that reach it, the outputs as
    `jax.ShapeDtypeStruct`); the leaves (arrays, or their shapes) are counted in order. Nothing
    reaches an output that is zero whatever they are."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    given = [frozenset({number}) for number in range(len(closed.jaxpr.invars))]
    reached = [found - {ZERO} if ZERO not in found else NONE for found in _through(closed, given)]
    return jax.tree.unflatten(jax.tree.structure(shapes), reached), shapes


def slopes(function: Callable[..., Any], at: PyTree, *others: Any) -> PyTree:
    """For each leaf of `at` whether it has a gradient of the floating number `function(at,
    *others)` that is not zero whatever the numbers are."""
    leaves, tree = jax.tree.flatten(at)
    moves = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def backwards(moving: list[Any], rest: list[Any], others: Any, one: Any) -> Any:
        def run(moving: list[Any]) -> Any:
            here, there = iter(moving), iter(rest)
            full = [next(here) if each else next(there) for each in moves]
            return function(jax.tree.unflatten(tree, full), *others)

        value, pull = jax.vjp(run, moving)
        return pull(one.astype(value.dtype))[0]

    moving = [leaf for leaf, each in zip(leaves, moves, strict=True) if each]
    rest = [leaf for leaf, each in zip(leaves, moves, strict=True) if not each]
    last = len(jax.tree.leaves((moving, rest, others)))
    one = jax.ShapeDtypeStruct((), jnp.float32)
    reached, _ = flows(backwards, moving, rest, others, one)
    found = iter(reached)
    return jax.tree.unflatten(tree, [each and last in next(found) for each in moves])


def _through(closed: ClosedJaxpr, given: Sequence[Labels]) -> list[Labels]:
    """The labels of a program's outputs for those of its inputs."""
    jaxpr = closed.jaxpr
    known: dict[Any, Labels] = dict(zip(jaxpr.invars, given, strict=True))
    known |= {
        var: _of_constant(value) for var, value in zip(jaxpr.constvars, closed.consts, strict=True)
    }

    def of(atom: Any) -> Labels:
        return _of_constant(atom.val) if isinstance(atom, Literal) else known.get(atom, NONE)

    for equation in jaxpr.eqns:
        into = [of(atom) for atom in equation.invars]
        out = _across(equation, into)
        known.update(zip(equation.outvars, out, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _across(equation: Any, into: list[Labels]) -> list[Labels]:
    name, count = equation.primitive.name, len(equation.outvars)
    if name in _SAME_PROGRAM and (inner := equation.params.get("jaxpr")) is not None:
        closed = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
        if len(closed.jaxpr.invars) == len(into):
            return _through(closed, into)
    zero = [ZERO in labels for labels in into]
    if (name in _PRODUCTS and any(zero)) or (name == "div" and zero[0]):
        return [frozenset({ZERO})] * count
    if name in _STAYS_ZERO and into and all(zero):
        return [frozenset({ZERO})] * count
    if name == "select_n" and all(zero[1:]):
        return [frozenset({ZERO})] * count
    return [frozenset().union(*into) - {ZERO}] * count


def _of_constant(value: Any) -> Labels:
    if np.size(value) > 1024 or not hasattr(value, "dtype"):
        return frozenset({ZERO}) if isinstance(value, int | float) and value == 0 else NONE
    if jnp.issubdtype(value.dtype, jax.dtypes.extended) or np.any(np.asarray(value)):
        return NONE
    return frozenset({ZERO})
