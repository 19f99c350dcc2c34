"""The algebra of warps: what it says of a point is what is seen there."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_image.warp import (
    compose,
    crop_plane,
    flip_plane,
    identity,
    invert,
    move_points,
    scale_plane,
    shift_plane,
)

from tlx.contracts.field import Warp

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))
SHIFTS = st.tuples(st.integers(-9, 9), st.integers(-9, 9))


@st.composite
def warps(draw, original):
    kind = draw(st.sampled_from(["flip", "shift", "crop", "scale", "identity"]))
    if kind == "flip":
        return flip_plane(original)
    if kind == "shift":
        return shift_plane(original, *draw(SHIFTS))
    if kind == "crop":
        return crop_plane(original, draw(SHIFTS), draw(SIDES))
    return identity(original) if kind == "identity" else scale_plane(original, draw(SIDES))


@st.composite
def chains(draw):
    """Two warps, one after the other, and the next."""
    first = draw(warps(draw(SIDES)))
    then = draw(warps(first.size))
    return first, then, draw(warps(then.size))


@given(chains(), st.floats(-5, 50), st.floats(-5, 50))
@settings(deadline=None)
def test_composed_is_one_after_the_other_and_back_is_where_it_was(chain, y, x):
    first, then, last = chain
    both = compose(first, then)
    assert (both.original, both.size) == (first.original, then.size)
    np.testing.assert_allclose(
        move_points(both, y, x), move_points(first, *move_points(then, y, x)), atol=1e-6
    )
    left, right = compose(both, last), compose(first, compose(then, last))
    np.testing.assert_allclose(left.matrix, right.matrix, atol=1e-6)
    back = invert(both)
    assert (back.original, back.size) == (both.size, both.original)
    np.testing.assert_allclose(move_points(back, *move_points(both, y, x)), (y, x), atol=1e-6)
    np.testing.assert_allclose(compose(both, back).matrix, np.eye(2, 3), atol=1e-6)


@given(SIDES, SHIFTS)
@settings(deadline=None)
def test_flips_and_shifts_by_whole_pixels_come_back_exactly(size, shift):
    for warp in (flip_plane(size), shift_plane(size, *shift)):
        np.testing.assert_array_equal(compose(warp, invert(warp)).matrix, np.eye(2, 3))
    twice = compose(flip_plane(size), flip_plane(size))
    np.testing.assert_array_equal(twice.matrix, np.eye(2, 3))


def test_the_device_computes_what_the_host_does():
    host = compose(scale_plane((30, 17), (12, 20)), crop_plane((12, 20), (2, -3), (8, 9)))

    def on_device(matrix, down):
        first = Warp(matrix, (12, 20), (30, 17))
        moved = compose(first, crop_plane((12, 20), (down, -3 * jnp.ones(())), (8, 9)))
        return moved.matrix, invert(moved).matrix

    matrix, back = jax.jit(on_device)(jnp.asarray(scale_plane((30, 17), (12, 20)).matrix), 2.0)
    np.testing.assert_allclose(matrix, host.matrix, rtol=1e-6)
    np.testing.assert_allclose(back, invert(host).matrix, rtol=1e-6)
