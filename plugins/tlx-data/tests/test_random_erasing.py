"""Random erasing: what is erased, and its statistics against the published algorithm in numpy."""

import jax
import numpy as np
import pytest
from scipy.stats import kstest
from tlx_data.random_erasing import RandomErasing

from tlx.errors import ConfigError

SIZE = (24, 32)


def many(augmentation, count, image=None):
    image = np.full((*SIZE, 3), 2, np.float32) if image is None else image
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(augmentation, (0, None)))(keys, image))


def holes(seen):
    """(height, width, top, left) of each hole in pictures of twos; noise is below 1."""
    found = []
    for mask in (seen < 2).any(-1):
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        box = (np.ptp(rows) + 1, np.ptp(columns) + 1, rows[0], columns[0])
        assert mask.sum() == box[0] * box[1], "a hole is a rectangle"
        found.append(box)
    return np.asarray(found)


def by_the_book(rng, scale, ratio):
    """Algorithm 1 of the paper, with a log-uniform ratio as in torchvision."""
    while True:
        area = rng.uniform(*scale) * SIZE[0] * SIZE[1]
        shape = np.exp(rng.uniform(*np.log(ratio)))
        height, width = round(np.sqrt(area * shape)), round(np.sqrt(area / shape))
        if height < SIZE[0] and width < SIZE[1]:
            top, left = rng.integers(SIZE[0] - height + 1), rng.integers(SIZE[1] - width + 1)
            return height, width, top, left


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.02, 0.33), (0.3, 3.3)), ((0.1, 0.4), (0.5, 1.0)), ((0.5, 0.5), (1, 1))]
)
def test_holes_are_those_of_the_published_algorithm(scale, ratio):
    rng = np.random.default_rng(1)
    seen = holes(many(RandomErasing(1.0, scale, ratio), 3000))
    expected = np.asarray([by_the_book(rng, scale, ratio) for _ in range(3000)])
    for one, other in zip(seen.T, expected.T, strict=True):
        # Two samples of 3000 differ by more than this once in a thousand times by chance.
        assert kstest(one, other).statistic < 1.95 * np.sqrt(2 / 3000)


def test_a_hole_is_uniform_noise_and_the_rest_is_as_it_was():
    image = np.random.default_rng(0).random((*SIZE, 3), np.float32) + 2
    seen = many(RandomErasing(1.0), 300, image)
    hole = (seen != image).any(-1)
    assert (seen[~hole] >= 2).all()
    noise = seen[hole]
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 4 / np.sqrt(12 * noise.size)
    assert abs(noise.var() - 1 / 12) < 0.002
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_pictures_are_erased_as_often_as_asked(probability):
    share = (many(RandomErasing(probability), 2000) < 2).any((1, 2, 3)).mean()
    # 4 standard deviations of a mean of 2000
    assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 2000)


def test_a_rectangle_that_never_fits_erases_nothing():
    assert (many(RandomErasing(1.0, (0.9, 0.9), (3.0, 3.0)), 50) == 2).all()


@pytest.mark.parametrize(
    "options",
    [{"probability": 1.1}, {"scale": (0.0, 0.3)}, {"scale": (0.3, 1.0)}, {"ratio": (2.0, 1.0)}],
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        RandomErasing(**options)
