"""Position embeddings on another grid: PyTorch's antialiased bicubic, class tokens untouched."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tlx.weights.positions import refitted, resample

DRAW = np.random.default_rng(0)


def draw(count, dtype=np.float32):
    return DRAW.normal(size=(1, count, 5)).astype(dtype)


def torch_resample(grid, new):
    """(1,N,D) of a square grid without class tokens, as timm's `resample_abs_pos_embed` does."""
    old = math.isqrt(grid.shape[1])
    picture = torch.tensor(grid).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    found = interpolate(picture, size=new, mode="bicubic", antialias=True)
    return found.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1).numpy()


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("old", "new"),
    [(14, (24, 24)), (14, (7, 7)), (14, (2, 2)), (7, (14, 14)), (37, (16, 16)), (3, (5, 2))],
)
def test_the_grid_is_resampled_as_in_pytorch(old, new, prefix):
    positions = draw(prefix + old * old)
    found = resample(positions, new, prefix)
    assert found.shape == (1, prefix + new[0] * new[1], 5)
    np.testing.assert_array_equal(found[:, :prefix], positions[:, :prefix])
    wanted = torch_resample(positions[:, prefix:], new)
    np.testing.assert_allclose(found[:, prefix:], wanted, atol=1e-5)


def test_the_same_grid_stays_to_the_bit_and_the_type_is_kept():
    positions = draw(10, np.float16)
    assert resample(positions, (3, 3), 1) is positions
    assert resample(positions, (6, 6), 1).dtype == np.float16
    flat = np.ones((1, 17, 2), np.float32)
    np.testing.assert_allclose(resample(flat, (7, 7), 1), 1, rtol=1e-6)


def test_no_square_no_grid():
    with pytest.raises(ValueError, match="12 positions behind 1 leading tokens are no square"):
        resample(draw(12), (2, 2), 1)


@pytest.mark.parametrize(("before", "count"), [(1 + 9, 1 + 16), (2 + 9, 2 + 4), (9, 4)])
def test_the_same_class_tokens_on_both_sides(before, count):
    positions = draw(before)
    found, change = refitted(positions, count)
    leading = before - 9
    assert change == f"resampled from a grid of 3x3 to {math.isqrt(count)}x{math.isqrt(count)}"
    np.testing.assert_array_equal(found[:, :leading], positions[:, :leading])
    assert found.shape == (1, count, 5)


def test_a_file_without_a_position_for_its_class_token():
    positions = draw(9)
    found, change = refitted(positions, 10)
    assert change == "zero for the class token"
    np.testing.assert_array_equal(found[:, 1:], positions)
    np.testing.assert_array_equal(found[:, :1], 0)
    # 49 and 17 are 36 and 4 behind thirteen tokens, too
    found, change = refitted(draw(49), 17)
    assert change == "zero for the class token, resampled from a grid of 7x7 to 4x4"
    assert found.shape == (1, 17, 5)


@pytest.mark.parametrize(("before", "count"), [(11, 10), (10, 9), (12, 17), (0, 5)])
def test_what_is_no_grid_stays_as_it_is(before, count):
    positions = draw(before)
    found, change = refitted(positions, count)
    assert found is positions
    assert change == ""
