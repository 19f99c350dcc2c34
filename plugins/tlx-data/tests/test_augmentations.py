"""Augmentations against numpy, Pillow and colorsys, and their statistics."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter
from tlx_data.blur import Blur, blurred
from tlx_data.color_jitter import (
    ColorJitter,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from tlx_data.crop import Crop
from tlx_data.flip import Flip
from tlx_data.grayscale import Grayscale
from tlx_data.rand_augment import RandAugment
from tlx_data.random_erasing import RandomErasing
from tlx_data.resized_crop import ResizedCrop, resized_part
from tlx_data.solarize import Solarize

from tlx.errors import ConfigError
from tlx.protocols import Augmentation

EVERY = (
    Flip(), Crop(), ResizedCrop(), ColorJitter(0.5, 0.5, 0.5, 0.2), Grayscale(), Blur(), Solarize(),
    RandAugment(), RandomErasing(),
)  # fmt: skip
NOTHING = (
    Flip(0.0), Crop(0), ResizedCrop((1.0, 1.0), (1.0, 1.0)), ColorJitter(0.0, 0.0, 0.0, 0.0),
    ColorJitter(0.5, 0.5, 0.5, 0.2, probability=0.0), Grayscale(0.0), Blur(0.0), Solarize(0.5, 0.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((12, 16, 3), np.float32)


def many(augmentation, image, count=64, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(augmentation, (0, None)))(keys, jnp.asarray(image)))


@pytest.mark.parametrize("augmentation", EVERY, ids=lambda a: type(a).__name__)
def test_the_contract(augmentation, image):
    assert isinstance(augmentation, Augmentation)
    seen = many(augmentation, image)
    assert seen.shape == (64, 12, 16, 3)
    assert seen.dtype == np.float32
    assert seen.min() >= 0
    assert seen.max() <= 1 + 1e-6
    np.testing.assert_array_equal(seen, many(augmentation, image))
    assert (seen != many(augmentation, image, seed=1)).any()
    alone = jax.jit(augmentation)(jax.random.split(jax.random.key(0), 64)[5], image)
    np.testing.assert_allclose(alone, seen[5], atol=1e-5)


@pytest.mark.parametrize("augmentation", NOTHING, ids=lambda a: type(a).__name__)
def test_at_zero_strength_nothing_changes(augmentation, image):
    seen = many(augmentation, image, 8)
    np.testing.assert_allclose(seen, np.broadcast_to(image, seen.shape), atol=1e-6)


def how_often(seen, image, changed):
    """The share of pictures that are the changed one; all others are as they were."""
    same = np.isclose(seen, image, atol=1e-6).all((1, 2, 3))
    other = np.isclose(seen, changed, atol=1e-6).all((1, 2, 3))
    assert (same ^ other).all()
    return other.mean()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_pictures_change_as_often_as_asked(image, probability):
    grey = np.repeat(image @ np.asarray([[0.299], [0.587], [0.114]], np.float32), 3, -1)
    for augmentation, changed in (
        (Flip(probability), image[:, ::-1]),
        (Grayscale(probability), grey),
        (Solarize(0.5, probability), np.where(image < 0.5, image, 1 - image)),
        (Blur(probability, (1.0, 1.0)), np.asarray(blurred(image, 1.0, 1))),
    ):
        share = how_often(many(augmentation, image, 2000), image, changed)
        # 4 standard deviations of a mean of 2000
        assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 2000)
    jittered = many(ColorJitter(0.5, 0.5, 0.5, 0.1, probability), image, 2000)
    share = (np.abs(jittered - image).max((1, 2, 3)) > 1e-6).mean()
    assert abs(share - probability) <= 4 * np.sqrt(probability * (1 - probability) / 2000)


def test_crop_is_a_shift_with_black_edges_and_every_shift_occurs(image):
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    shifts = {
        (top, left): padded[top : top + 12, left : left + 16].tobytes()
        for top in range(5)
        for left in range(5)
    }
    assert len(set(shifts.values())) == 25
    seen = [one.tobytes() for one in many(Crop(2), image, 1000)]
    counts = [seen.count(shift) for shift in shifts.values()]
    assert sum(counts) == 1000
    # chi-square with 24 degrees of freedom: 51.2 is passed once in a thousand times by chance.
    assert ((np.asarray(counts) - 40) ** 2 / 40).sum() < 51.2


def test_resized_part_of_whole_pixels_is_the_crop_resized_by_pillow(image):
    part = image[3:9, 4:12]
    expected = np.stack(
        [
            np.asarray(Image.fromarray(part[..., c]).resize((16, 12), Image.Resampling.BILINEAR))
            for c in range(3)
        ],
        -1,
    )
    seen = resized_part(jnp.asarray(image), jnp.asarray([3 / 12, 4 / 16]), jnp.asarray([0.5, 0.5]))
    # At the edge of the part Pillow does not know the neighbours outside of it.
    np.testing.assert_allclose(seen[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)


def test_resized_crop_keeps_a_ramp_a_ramp():
    """On a picture that is linear in x and y, cropping and resizing shows the part's place."""
    y, x = np.mgrid[0:64, 0:64] / 64 + 0.5 / 64
    ramp = np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)
    seen = many(ResizedCrop((0.25, 0.5), (0.8, 1.25)), ramp, 500)
    width = (seen[:, 32, 48, 0] - seen[:, 32, 16, 0]) * 2
    height = (seen[:, 48, 32, 1] - seen[:, 16, 32, 1]) * 2
    area, ratio = width * height, width / height
    assert (area.min(), ratio.min()) >= (0.25 - 1e-3, 0)
    assert area.max() <= 0.5 + 1e-3
    assert ratio.min() >= 0.8 - 1e-2
    assert ratio.max() <= 1.25 + 1e-2
    assert abs(area.mean() - 0.375) < 0.013
    assert abs(np.log(ratio).mean()) < 0.025
    middle = seen[:, 31:33, 31:33, 0].mean((1, 2))
    left = middle - width / 2
    assert left.min() >= -1e-3
    assert (left + width).max() <= 1 + 1e-3
    assert abs(middle.mean() - 0.5) < 0.02


def enhanced(enhancer, image, factor):
    return np.asarray(enhancer(Image.fromarray(image)).enhance(factor)) / 255


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_colours_agree_with_pillow(factor):
    image = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    floats = jnp.asarray(image, jnp.float32) / 255
    for ours, theirs in (
        (adjust_brightness, ImageEnhance.Brightness),
        (adjust_contrast, ImageEnhance.Contrast),
        (adjust_saturation, ImageEnhance.Color),
    ):
        # Pillow rounds the mean and the grey picture to whole levels.
        np.testing.assert_allclose(
            ours(floats, factor), enhanced(theirs, image, factor), atol=2.1 / 255
        )


def test_grey_and_solarised_pictures_agree_with_pillow():
    image = np.random.default_rng(2).integers(0, 256, (12, 16, 3), np.uint8)
    floats, theirs = image.astype(np.float32) / 255, Image.fromarray(image)
    grey = np.asarray(theirs.convert("L"))[..., None] / 255
    seen = many(Grayscale(1.0), floats, 1)[0]
    np.testing.assert_allclose(seen, np.repeat(grey, 3, -1), atol=1.1 / 255)
    for level in (0, 100, 128, 255):
        solarised = np.asarray(ImageOps.solarize(theirs, level)) / 255
        seen = many(Solarize(level / 255, 1.0), floats, 1)[0]
        np.testing.assert_allclose(seen, solarised, atol=1e-6)


@pytest.mark.parametrize(("sigma", "radius"), [(0.1, 1), (0.7, 1), (1.3, 4), (2.0, 11)])
def test_blur_agrees_with_scipy(image, sigma, radius):
    expected = gaussian_filter(image, (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0))
    np.testing.assert_allclose(blurred(jnp.asarray(image), sigma, radius), expected, atol=1e-5)


def test_blur_takes_a_window_of_a_tenth_of_the_shorter_side_and_any_sigma_of_its_range():
    point = np.zeros((64, 80, 3), np.float32)
    point[32, 40] = 1
    seen = many(Blur(1.0), point, 200)
    wide = np.ptp(np.nonzero(seen.any((0, 3)))[1]) + 1
    assert wide == 7  # 6.4 pixels, made odd
    top = seen[:, 32, 40, 0]
    sharpest, softest = (float(blurred(point, sigma, 3)[32, 40, 0]) for sigma in (0.1, 2.0))
    assert softest <= top.min() < softest * 1.1
    assert sharpest * 0.9 < top.max() <= sharpest + 1e-6
    np.testing.assert_allclose(seen.sum((1, 2)), 1, rtol=1e-5)
    assert Blur(1.0)(jax.random.key(0), jnp.ones((8, 8, 3))).shape == (8, 8, 3)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.25, 0.5])
def test_hue_agrees_with_colorsys(image, turns):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*map(float, pixel))
        return colorsys.hsv_to_rgb((h + turns) % 1, s, v)

    corners = np.asarray([[[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)]], np.float32)
    for picture in (image, corners, np.full((2, 2, 3), 0.4, np.float32)):
        expected = np.apply_along_axis(turned, -1, picture)
        np.testing.assert_allclose(adjust_hue(jnp.asarray(picture), turns), expected, atol=1e-5)


def test_jitter_draws_from_its_ranges():
    grey = np.full((4, 4, 3), 0.5, np.float32)
    factor = many(ColorJitter(0.4, 0.0, 0.0, 0.0), grey, 1000)[:, 0, 0, 0] / 0.5
    assert factor.min() >= 0.6 - 1e-6
    assert factor.max() <= 1.4 + 1e-6
    assert abs(factor.mean() - 1) < 4 * 0.8 / np.sqrt(12 * 1000)
    strong = many(ColorJitter(3.0, 0.0, 0.0, 0.0), grey, 100)
    assert strong.min() >= 0


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (Flip, {"probability": 1.5}),
        (Grayscale, {"probability": -0.1}),
        (Solarize, {"probability": 2.0}),
        (Solarize, {"threshold": 1.2}),
        (Blur, {"probability": 2.0}),
        (Blur, {"sigma": (0.0, 1.0)}),
        (Blur, {"window": 1.5}),
        (Crop, {"padding": -1}),
        (ResizedCrop, {"scale": (0.0, 1.0)}),
        (ResizedCrop, {"scale": (0.8, 0.5)}),
        (ResizedCrop, {"ratio": (0.0, 1.0)}),
        (ColorJitter, {"hue": 0.6}),
        (ColorJitter, {"contrast": -0.1}),
        (ColorJitter, {"probability": 1.1}),
    ],
)
def test_options_without_meaning_are_refused(factory, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        factory(**options)
