"""Truncated Newton: smooth convex functions of many numbers, to the bottom.

Each step solves the Newton equations by conjugate gradients, as exactly as is worth it so far from
the minimum, and goes back along that direction until the function has really fallen. Only products
of the Hessian with a vector are needed, so any pytree will do, and all of it runs inside of `jit`
and `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from tlx.types import PyTree

ARMIJO = 1e-4
"""The share of the promised fall that a step must keep."""
HALVINGS = 30
"""How often a step is halved before the search gives up."""


class Info(NamedTuple):
    """How a minimisation ended, all scalars: the function's `value`, the Euclidean
    `gradient_norm`, Newton `iterations` and whether it `converged`."""

    value: Array
    gradient_norm: Array
    iterations: Array
    converged: Array


class _Point(NamedTuple):
    x: Array
    value: Array
    slope: Array


class _Conjugate(NamedTuple):
    """Of the conjugate gradients: `square` is the squared norm of `residual`, `steepest` the
    largest curvature met."""

    direction: Array
    residual: Array
    conjugate: Array
    square: Array
    number: Array
    steepest: Array
    curved: Array


def minimise(
    fun: Callable[[PyTree], Array],
    start: PyTree,
    *,
    tolerance: float = 1e-10,
    steps: int = 100,
    inner: int = 250,
    forcing: float = 0.5,
) -> tuple[PyTree, Info]:
    """(the minimiser, how it ended) of a scalar, twice differentiable, convex function.

    Works in the dtype of `start`, products of matrices included, whatever the accelerator's
    default. Converged means that a Newton direction promised to lower the value by no more than
    `tolerance` (half the squared Newton decrement); that step is still taken. It also means that
    rounding hides what is left: the promise is small beside the value and the gradient no longer
    shrinks. A function that is not finite at `start` is returned there, not converged.

    Args:
        fun: from a pytree like `start` to a scalar; it may close over traced arrays.
        start: where to begin; leaves of one floating dtype.
        tolerance: in units of the function.
        steps: at most so many Newton steps.
        inner: at most so many products with the Hessian in each.
        forcing: the largest relative residual of the Newton equations; far from the minimum there
            is no use in solving them better, near it the residual falls with the gradient's root. 0
            solves them as exactly as `inner` allows: Newton's own method.

    Source: Nocedal and Wright 2006, Numerical Optimization, algorithm 7.1 (line search
    Newton-CG); the search near the minimum accepts by the slope, where differences of the value
    are rounding alone (Hager and Zhang 2005, SIAM J. Optim. 16, approximate Wolfe condition).
    """
    flat, back = ravel_pytree(start)

    def value(x: Array) -> Array:
        return fun(back(x)).astype(flat.dtype)

    def go_on(carry: tuple[_Point, Array, Array, Array]) -> Array:
        _, number, converged, stuck = carry
        return (number < steps) & ~converged & ~stuck

    def newton(
        carry: tuple[_Point, Array, Array, Array],
    ) -> tuple[_Point, Array, Array, Array]:
        here, number, _, _ = carry
        _, times_hessian = jax.linearize(jax.grad(value), here.x)
        size = jnp.linalg.norm(here.slope)
        direction = _solve(
            times_hessian, here.slope, jnp.minimum(forcing, jnp.sqrt(size)) * size, inner
        )
        fall = -jnp.vdot(here.slope, direction)
        eps = jnp.finfo(flat.dtype).eps
        there, moved = _search(value, here, direction, fall)
        # Near the minimum the slope shows what differences of the value no longer do.
        near = fall / 2 <= jnp.sqrt(eps) * jnp.abs(here.value)
        flatter = jnp.linalg.norm(there.slope) / size
        there = _where(near & (flatter > 1), here, there)
        converged = (fall / 2 <= tolerance) | (near & (flatter > 0.9))
        return there, number + 1, converged, ~moved

    with jax.default_matmul_precision("highest"):
        first = _Point(flat, *jax.value_and_grad(value)(flat))
        no = jnp.zeros((), bool)
        finite = jnp.isfinite(first.value) & jnp.isfinite(first.slope).all()
        end, iterations, converged, _ = lax.while_loop(
            go_on, newton, (first, jnp.int32(0), no, ~finite)
        )
    size = jnp.linalg.norm(end.slope)
    return back(end.x), Info(end.value, size, iterations, converged)


def _solve(times: Callable[[Array], Array], slope: Array, residual: Array, inner: int) -> Array:
    """Conjugate gradients for H d = -slope until the residual's norm is no longer above
    `residual`, or the curvature is lost to rounding; a direction of descent in any case."""
    eps = jnp.finfo(slope.dtype).eps

    def go_on(carry: _Conjugate) -> Array:
        return (carry.square > residual**2) & (carry.number < inner) & carry.curved

    def step(carry: _Conjugate) -> _Conjugate:
        d, r, p, square, number, steepest, _ = carry
        hessian_p = times(p)
        curvature, length_p = jnp.vdot(p, hessian_p), jnp.vdot(p, p)
        steepest = jnp.maximum(steepest, curvature / length_p)
        curved = curvature > eps * steepest * length_p
        # Without curvature from the start: the gradient itself, for the search to shorten.
        length = jnp.where(curved, square / jnp.where(curved, curvature, 1), number == 0)
        r_next = r - length * hessian_p
        square_next = jnp.vdot(r_next, r_next)
        p_next = r_next + square_next / square * p
        return _Conjugate(d + length * p, r_next, p_next, square_next, number + 1, steepest, curved)

    zero, square = jnp.zeros_like(slope), jnp.vdot(slope, slope)
    start = _Conjugate(
        zero, -slope, -slope, square, jnp.int32(0), jnp.zeros_like(square), jnp.ones((), bool)
    )
    return lax.while_loop(go_on, step, start).direction


def _search(
    value: Callable[[Array], Array], here: _Point, direction: Array, fall: Array
) -> tuple[_Point, Array]:
    """(the first point at 1, 1/2, 1/4, ... of the direction that is good enough, True), or
    (`here`, False) where none is."""
    rounding = 16 * jnp.finfo(here.x.dtype).eps * jnp.abs(here.value)
    both = jax.value_and_grad(value)

    def good(there: _Point, length: Array) -> Array:
        lower = there.value <= here.value - ARMIJO * length * fall
        level = there.value <= here.value + rounding
        flatter = jnp.vdot(there.slope, direction) <= (1 - 2 * ARMIJO) * fall
        return jnp.isfinite(there.slope).all() & (lower | (level & flatter))

    def at(length: Array) -> _Point:
        x = here.x + length * direction
        return _Point(x, *both(x))

    def go_on(carry: tuple[_Point, Array]) -> Array:
        there, length = carry
        return ~good(there, length) & (length > 2.0**-HALVINGS)

    def halve(carry: tuple[_Point, Array]) -> tuple[_Point, Array]:
        return at(carry[1] / 2), carry[1] / 2

    one = jnp.ones((), here.x.dtype)
    there, length = lax.while_loop(go_on, halve, (at(one), one))
    moved = good(there, length)
    return _where(moved, there, here), moved


def _where(condition: Array, one: _Point, other: _Point) -> _Point:
    return jax.tree.map(partial(jnp.where, condition), one, other)
