"""Mixup and CutMix against numpy, the Beta distribution and the published algorithm."""

import jax
import numpy as np
import pytest
from scipy.stats import beta, kstest
from tlx_data.cutmix import CutMix
from tlx_data.mixup import Mixup

from tlx.errors import ConfigError
from tlx.protocols import Mixes

SIZE, COUNT = (24, 32), 4000
SURE = 1.95 / np.sqrt(COUNT)
"""The statistic of Kolmogorov and Smirnov passes this once in a thousand times by chance."""


def mixed(change, image, other, count=COUNT):
    keys = jax.random.split(jax.random.key(0), count)
    made = jax.jit(jax.vmap(change.mix, (0, None, None)))(keys, image, other)
    return tuple(np.asarray(one) for one in made)


@pytest.fixture(scope="module")
def pair():
    return tuple(np.random.default_rng(0).random((2, *SIZE, 3), np.float32))


@pytest.mark.parametrize("change", [Mixup(), CutMix()])
def test_the_contract(change, pair):
    assert isinstance(change, Mixes)
    image, share = mixed(change, *pair, 8)
    assert (image.shape, image.dtype, share.dtype) == ((8, *SIZE, 3), np.float32, np.float32)
    again = mixed(change, *pair, 8)
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(share, again[1])


def test_mixup_is_what_numpy_computes(pair):
    image, share = mixed(Mixup(1.0), *pair, 50)
    part = share[:, None, None, None]
    np.testing.assert_allclose(image, part * pair[0] + (1 - part) * pair[1], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_mixups_share_has_a_beta_distribution(alpha):
    point = np.zeros((1, 1, 3), np.float32)
    _, share = mixed(Mixup(alpha), point, point)
    assert abs(share.mean() - 0.5) < 4 * beta(alpha, alpha).std() / np.sqrt(COUNT)
    # Rounded, as float32 has but one number for what lies very near to 1.
    expected = np.random.default_rng(1).beta(alpha, alpha, COUNT)
    assert kstest(share.round(3), expected.round(3)).statistic < SURE * np.sqrt(2)


def by_the_book(rng, alpha):
    """Algorithm A1 of the paper: (top, left, height, width) and the share of the first."""
    cut = np.sqrt(1 - rng.beta(alpha, alpha))
    ends = []
    for side in SIZE:
        middle, half = rng.integers(side), int(side * cut) // 2
        ends.append(np.clip([middle - half, middle + half], 0, side))
    (top, bottom), (left, right) = ends
    area = (bottom - top) * (right - left)
    return top, left, bottom - top, right - left, 1 - area / (SIZE[0] * SIZE[1])


def test_cutmix_puts_a_rectangle_of_the_other_in_its_place(pair):
    image, share = mixed(CutMix(), *pair, 300)
    theirs = (image != pair[0]).any(-1)
    np.testing.assert_array_equal(image[theirs], np.broadcast_to(pair[1], image.shape)[theirs])
    np.testing.assert_allclose(share, 1 - theirs.mean((1, 2)), atol=1e-6)
    for mask in theirs[theirs.any((1, 2))]:
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum(), "a rectangle"
        assert mask[mask.any(1)][:, mask.any(0)].all()


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_cutmix_draws_rectangles_as_published(alpha):
    rng = np.random.default_rng(1)
    expected = np.asarray([by_the_book(rng, alpha) for _ in range(COUNT)])
    image, share = mixed(CutMix(alpha), np.zeros((*SIZE, 1)), np.ones((*SIZE, 1)))
    assert kstest(share, expected[:, 4]).statistic < SURE * np.sqrt(2)
    cut, known = image[..., 0] > 0, expected[:, 2] * expected[:, 3] > 0
    filled = cut.any((1, 2))
    assert abs(filled.mean() - known.mean()) < 4 * np.sqrt(0.5 / COUNT)
    for axis, column in ((2, 0), (1, 1)):  # top, left
        seen = cut[filled].any(axis).argmax(1)
        assert kstest(seen, expected[known, column]).statistic < SURE * np.sqrt(2)


@pytest.mark.parametrize("factory", [Mixup, CutMix])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_pictures_are_mixed_as_often_as_asked(factory, probability, pair):
    image, share = mixed(factory(4.0, probability), *pair, 2000)
    same = (image == pair[0]).all((1, 2, 3))
    # A share of 1 leaves the picture as it is, to the bit, and CutMix's box may be empty.
    np.testing.assert_array_equal(same, share == 1)
    changed = 1 - same.mean()
    assert abs(changed - probability) <= 4 * np.sqrt(probability * (1 - probability) / 2000)


@pytest.mark.parametrize("factory", [Mixup, CutMix])
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": -1.0}, {"probability": 1.1}])
def test_options_without_meaning_are_refused(factory, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        factory(**options)
