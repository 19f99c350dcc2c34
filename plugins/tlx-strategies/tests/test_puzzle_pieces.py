"""The permutations and the tiles of a jigsaw puzzle, against plain loops and slices."""

from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies import tiles
from tlx_strategies.permutations import distant

from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)


@pytest.mark.parametrize(("places", "count"), [(3, 6), (4, 7), (4, 24), (5, 20)])
def test_permutations_are_as_far_apart_as_a_plain_loop_finds_them(places, count):
    every = list(permutations(range(places)))
    chosen = [every[0]]
    while len(chosen) < count:
        sums = {
            one: sum(a != b for other in chosen for a, b in zip(one, other, strict=True))
            for one in every
            if one not in chosen
        }
        chosen.append(max(sums, key=sums.get))
    np.testing.assert_array_equal(distant(places, count), chosen)


def test_permutations_of_nine_are_all_different_and_far_apart():
    found = distant(9, 60)
    assert len({tuple(row) for row in found}) == 60
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(9), (60, 1)))
    apart = (found[:, None] != found[None]).sum(-1)[np.triu_indices(60, 1)]
    assert apart.mean() > 8.1  # 8 for permutations at random
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


@pytest.mark.parametrize(("grid", "gap", "side"), [(2, 0.25, 6), (3, 0.2, 4), (2, 0.0, 8)])
def test_tiles_are_cut_from_anywhere_in_their_cells(grid, gap, side):
    row, column = np.mgrid[:16, :16]
    picture = np.stack([row, column, row * column], -1).astype(np.float32)
    many = np.repeat(picture[None], 60, 0)
    cut = quick_jit(tiles.cut, static_argnums=(2, 3))(jax.random.split(KEY, 60), many, grid, gap)
    cut = np.asarray(cut)
    assert cut.shape == (60, grid**2, side, side, 3)
    cell = 16 // grid
    corners = cut[:, :, 0, 0, :2].astype(int)
    for place, (r, c) in enumerate(product(range(grid), repeat=2)):
        moved = corners[:, place] - [r * cell, c * cell]
        wanted = set(product(range(cell - side + 1), repeat=2))
        assert {tuple(at) for at in moved.tolist()} == wanted
        y, x = corners[0, place]
        np.testing.assert_array_equal(cut[0, place], picture[y : y + side, x : x + side])


def test_tiles_show_neither_brightness_nor_contrast():
    cut = np.random.default_rng(0).random((6, 4, 6, 6, 3)).astype(np.float32)
    evened = quick_jit(tiles.evened)
    even = np.asarray(evened(cut))
    np.testing.assert_allclose(even.mean((2, 3)), 0.5, atol=1e-4)
    np.testing.assert_allclose(even.std((2, 3)), 0.25, rtol=1e-2)
    np.testing.assert_allclose(evened(0.7 * cut + 0.2), even, atol=5e-3)
    np.testing.assert_allclose(tiles.evened(jnp.ones((1, 4, 3, 3, 3))), 0.5, atol=1e-6)


def test_tiles_are_laid_side_by_side():
    cut = jnp.arange(1.0, 10)[None, :, None, None, None] * jnp.ones((1, 9, 2, 3, 3))
    laid = np.asarray(quick_jit(tiles.laid)(cut))[0, ..., 0]
    assert laid.shape == (12, 15)
    np.testing.assert_array_equal(laid[1::4, 2::5], np.arange(1, 10).reshape(3, 3))
    assert not laid[::4].any()
