"""What the axes of a parameter mean, found by what a network does with it.

The program of a pass is followed from each parameter to where it meets the picture: a product or a
convolution says which axes are summed over (its inputs) and which stay (its outputs), and a scan
or a batched product which ones count layers. What is only added to features or looked up is an
embedding, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.extend.core import Literal

from tlx.types import PyTree

Labels: TypeAlias = tuple[tuple[int, ...], ...]
"""For each axis of an array the axes of the parameter that it was made of, slowest first."""


class Use(NamedTuple):
    """One place where a parameter meets the picture: `layers`, `ins` and `outs` are its axes, and
    `picked` those of which one index was taken; `beside` is whether it is added to features,
    joined to them or looked up."""

    layers: frozenset[int] = frozenset()
    picked: frozenset[int] = frozenset()
    ins: frozenset[int] = frozenset()
    outs: frozenset[int] = frozenset()
    beside: bool = False


class Origin(NamedTuple):
    """A parameter on its way: which one, what became of its axes, which of them a scan has taken
    apart, and of which one index was taken."""

    leaf: int
    labels: Labels
    layers: frozenset[int] = frozenset()
    picked: frozenset[int] = frozenset()


PICTURE = "picture"
"""What depends on the picture: it carries no axes of a parameter."""
_Value: TypeAlias = "tuple[Origin, ...] | str"
"""What an array is made of: parameters (none: constants), or a picture."""


def uses(function: Callable[..., Any], params: PyTree, x: Any, *others: Any) -> list[list[Use]]:
    """What `function(params, x, *others)` does with each leaf of `params`, in tree order. All
    arguments are arrays or their shapes; nothing is computed."""
    jaxpr = jax.make_jaxpr(function)(params, x, *others).jaxpr
    leaves = jax.tree.leaves(params)
    found: list[list[Use]] = [[] for _ in leaves]
    given: list[_Value] = [
        (Origin(n, tuple((axis,) for axis in range(len(leaf.shape)))),)
        for n, leaf in enumerate(leaves)
    ]
    given += [PICTURE] * len(jax.tree.leaves(x))
    given += [()] * (len(jaxpr.invars) - len(given))
    _follow(jaxpr, given, found)
    return found


_SAME = frozenset(
    ("add", "clamp", "concatenate", "convert_element_type", "copy", "div", "dynamic_slice")
).union(
    ("abs", "cos", "erf", "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "logistic"),
    ("max", "min", "mul", "name", "neg", "optimization_barrier", "pad", "pow", "real", "rev"),
    ("reduce_precision", "round", "rsqrt", "select_n", "sharding_constraint", "sign", "sin"),
    ("slice", "sqrt", "square", "stop_gradient", "sub", "tanh", "tile"),
)
"""Primitives after which an axis is what it was, whatever its length is now."""
_BESIDE = frozenset(("add", "sub", "concatenate", "gather", "dynamic_update_slice", "select_n"))
"""Primitives that put a parameter beside features, and multiply it by none of them."""
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def _follow(jaxpr: Any, given: Sequence[_Value], found: list[list[Use]]) -> list[_Value]:
    """Write down the uses in a program whose arguments are `given`; what it returns."""
    known: dict[Any, _Value] = dict(zip(jaxpr.invars, given, strict=True))

    def value(atom: Any) -> _Value:
        return () if isinstance(atom, Literal) else known.get(atom, ())

    for eqn in jaxpr.eqns:
        values = [value(atom) for atom in eqn.invars]
        if any(values):
            known |= dict(zip(eqn.outvars, _after(eqn, values, found), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _after(eqn: Any, values: list[_Value], found: list[list[Use]]) -> list[_Value]:
    """What the results of one equation are made of."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        _scanned(params, values, found)
    elif name == "cond":
        every = [_follow(branch.jaxpr, values[1:], found) for branch in params["branches"]]
        return [max(each, key=bool) for each in zip(*every, strict=True)]
    elif name != "while":
        inner = next((p for p in map(params.get, _PROGRAMS) if p is not None), None)
        if inner is not None:
            body = getattr(inner, "jaxpr", inner)
            return _follow(body, values[len(values) - len(body.invars) :], found)
        if PICTURE not in values:
            return [_carried(eqn, values)] * len(eqn.outvars)
        for n, value in enumerate(values):
            for origin in value:
                if isinstance(origin, Origin):
                    found[origin.leaf].append(_met(eqn, n, origin))
    return [PICTURE] * len(eqn.outvars)


def _met(eqn: Any, n: int, origin: Origin) -> Use:
    """How argument `n` of an equation meets the picture."""
    name, params = eqn.primitive.name, eqn.params
    taken, picked = origin.layers, origin.picked

    def axes(numbers: Iterable[int]) -> frozenset[int]:
        return frozenset(label for number in numbers for label in origin.labels[number])

    if name == "dot_general":
        contracted, batched = (sides[n] for sides in params["dimension_numbers"])
        layers, ins = axes(batched), axes(contracted)
        outs = axes(range(len(origin.labels))) - layers - ins
        return Use(taken | layers, picked, ins, outs)
    if name == "conv_general_dilated" and n == 1:
        out, *window = params["dimension_numbers"].rhs_spec
        made, groups = origin.labels[out], params["feature_group_count"]
        # `vmap` over kernels is a convolution in groups: the layers lie in front of the outputs.
        at = 1 if len(made) > 1 and groups * params["batch_group_count"] > 1 else 0
        return Use(taken | {*made[:at]}, picked, axes(window), frozenset(made[at:]))
    return Use(taken, picked, beside=name in _BESIDE)


def _carried(eqn: Any, values: list[_Value]) -> tuple[Origin, ...]:
    """What a result made of parameters alone is made of: all that were joined, else the one that
    gives the result its shape."""
    given = [
        (eqn.invars[n].aval.shape, origin)
        for n, value in enumerate(values)
        for origin in value
        if isinstance(origin, Origin)
    ]
    if given and eqn.primitive.name != "concatenate":
        given = [max(given, key=lambda each: prod(each[0]))]
    after = eqn.outvars[0].aval.shape
    found = []
    for shape, origin in given:
        labels = _labels(eqn, origin.labels, shape, after)
        if labels is not None:
            lost = frozenset(sum(origin.labels, ())) - frozenset(sum(labels, ()))
            found.append(origin._replace(labels=labels, picked=origin.picked | lost))
    return tuple(found)


def _labels(
    eqn: Any, labels: Labels, shape: tuple[int, ...], after: tuple[int, ...]
) -> Labels | None:
    """What one equation makes of an array's axes; None where that is not known."""
    name, params = eqn.primitive.name, eqn.params
    if name == "transpose":
        return tuple(labels[axis] for axis in params["permutation"])
    if name == "broadcast_in_dim":
        placed = dict(zip(params["broadcast_dimensions"], labels, strict=True))
        return tuple(placed.get(axis, ()) for axis in range(len(after)))
    if name == "squeeze":
        dropped = {axis % len(shape) for axis in params["dimensions"]}
        return tuple(each for axis, each in enumerate(labels) if axis not in dropped)
    if name == "expand_dims":
        kept = iter(labels)
        new = {axis % len(after) for axis in params["dimensions"]}
        return tuple(() if axis in new else next(kept) for axis in range(len(after)))
    if name == "reshape":
        order = params["dimensions"] or range(len(shape))
        return _reshaped([labels[n] for n in order], [shape[n] for n in order], after)
    return labels if name in _SAME and len(shape) == len(after) else None


def _reshaped(labels: Sequence[Any], shape: Sequence[int], after: Sequence[int]) -> Labels | None:
    """Axes merged or of length 1 dropped and added; None where one is split."""
    rest = [(size, each) for size, each in zip(shape, labels, strict=True) if size > 1]
    found: list[tuple[int, ...]] = []
    for size in after:
        merged, many = (), 1
        while many < size and rest:
            many, merged = many * rest[0][0], merged + rest.pop(0)[1]
        if many != size:
            return None
        found.append(merged)
    return tuple(found)


def _scanned(params: Mapping[str, Any], values: list[_Value], found: list[list[Use]]) -> None:
    """A scan: what it goes through loses its first axis, which counts layers."""
    fixed, moving = params["num_consts"], params["num_carry"]
    inner: list[_Value] = [*values[:fixed], *[PICTURE] * moving]
    for value in values[fixed + moving :]:
        if value != PICTURE:
            value = tuple(
                origin._replace(labels=tuple(rest), layers=origin.layers | frozenset(first))
                for origin in value
                if isinstance(origin, Origin)
                for first, *rest in (origin.labels,)
            )
        inner.append(value)
    _follow(params["jaxpr"].jaxpr, inner, found)
