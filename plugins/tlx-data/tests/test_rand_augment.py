"""RandAugment's operations against Pillow on real pictures, and what is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image
from tlx_data.image_operations import equalized, posterized, warped
from tlx_data.rand_augment import FARTHEST, OPERATIONS, RandAugment, operation

from tlx.errors import ConfigError


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def photo(request):
    return load_sample_image(request.param)[40:200:2, 200:420:2].copy()


@pytest.fixture(scope="module")
def operate():
    return jax.jit(operation)


def affine(picture, inverse):
    method, sampling = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return picture.transform(picture.size, method, inverse, sampling)


def with_pillow(name, picture, s):
    """The operation as torchvision and the paper's code do it, at a strength of -1 to 1."""
    enhancers = {
        "colour": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhancers:
        return enhancers[name](picture).enhance(1 + 0.9 * s)
    return {
        "identity": lambda: picture,
        "auto_contrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "solarize": lambda: ImageOps.solarize(picture, 255 - 255 * abs(s)),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(4 * abs(s))),
        "rotate": lambda: picture.rotate(30 * s, Image.Resampling.BILINEAR),
        "shear_x": lambda: affine(picture, (1, 0.3 * s, 0, 0, 1, 0)),
        "shear_y": lambda: affine(picture, (1, 0, 0, 0.3 * s, 1, 0)),
        "translate_x": lambda: affine(picture, (1, 0, FARTHEST * picture.width * s, 0, 1, 0)),
        "translate_y": lambda: affine(picture, (1, 0, 0, 0, 1, FARTHEST * picture.height * s)),
    }[name]()


@pytest.mark.parametrize("magnitude", [-30, -9, 0, 4, 9, 17, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_agree_with_pillow(photo, operate, name, magnitude):
    expected = np.asarray(with_pillow(name, Image.fromarray(photo), magnitude / 30), float)
    strength = jnp.float32(magnitude / 30)
    seen = 255 * np.asarray(
        operate(photo.astype(np.float32) / 255, OPERATIONS.index(name), strength)
    )
    odd = np.abs(seen - expected).max(-1) > 2.1
    # At the rim of a moved picture rounding decides whether a pixel is inside.
    assert odd.mean() < (0.005 if name in ("rotate", "shear_x", "shear_y") else 1e-9)
    changed = np.abs(expected - photo).max() > 3
    assert (
        changed or magnitude == 0 or name in ("identity", "auto_contrast", "posterize", "solarize")
    )


def test_equalize_is_exact_and_leaves_what_is_too_plain(photo):
    for levels in (photo, photo // 3, np.full((6, 7, 3), 40, np.uint8), photo[:3, :4] // 128 * 128):
        expected = np.asarray(ImageOps.equalize(Image.fromarray(levels)))
        seen = 255 * np.asarray(equalized(levels.astype(np.float32) / 255))
        np.testing.assert_allclose(seen, expected, atol=1e-3)


def test_posterize_is_exact():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    for bits in range(1, 9):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(levels), bits))
        seen = 255 * np.asarray(posterized(levels.astype(np.float32) / 255, jnp.float32(bits)))
        np.testing.assert_allclose(seen, expected, atol=1e-3)


def test_a_map_that_moves_nothing_changes_no_bit(photo):
    image = photo.astype(np.float32) / 255
    np.testing.assert_array_equal(jax.jit(warped)(image, jnp.eye(2, 3)), image)


PLAIN = tuple(
    map(OPERATIONS.index, ("identity", "auto_contrast", "equalize", "solarize", "posterize"))
)
"""Numbers of the operations that know no direction."""
VARIANTS = [
    (number, sign)
    for number in range(len(OPERATIONS))
    for sign in ((1,) if number in PLAIN else (-1, 1))
]


def after(images):
    """Each picture after every operation in both directions: (N,V,H,W,3)."""
    numbers, signs = (jnp.asarray(values) for values in zip(*VARIANTS, strict=True))
    every = jax.vmap(operation, (None, 0, 0))
    return jax.jit(jax.vmap(every, (0, None, None)))(images, numbers, signs * jnp.float32(0.3))


def nearest(seen, known):
    """Of each picture, the number of the known one that is nearest, and how far that is."""
    apart = np.stack([np.abs(seen - one).max((1, 2, 3)) for one in np.asarray(known)], -1)
    return apart.argmin(-1), apart.min(-1)


def drawn(augmentation, image, count):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(augmentation, (0, None)))(keys, image))


@pytest.fixture(scope="module")
def noise():
    """Enough pixels to be equalized."""
    return jnp.asarray(np.random.default_rng(0).random((18, 20, 3), np.float32))


def test_every_operation_and_direction_is_drawn_equally_often(noise):
    which, far = nearest(drawn(RandAugment(1), noise, 2800), after(noise[None])[0])
    assert far.max() < 1e-5
    counts = np.bincount(which, minlength=len(VARIANTS))
    expected = np.asarray([200 if number in PLAIN else 100 for number, _ in VARIANTS])
    # chi-square with 22 degrees of freedom: 48.3 is passed once in a thousand times by chance.
    assert ((counts - expected) ** 2 / expected).sum() < 48.3


def test_count_operations_are_done_one_after_the_other(noise):
    pairs = after(after(noise[None])[0]).reshape(-1, *noise.shape)
    which, far = nearest(drawn(RandAugment(2), noise, 400), pairs)
    # Where the second has a threshold, rounding in the first may make another pixel.
    assert (far < 1e-5).mean() > 0.97
    assert len(set(which // len(VARIANTS))) == len(set(which % len(VARIANTS))) == len(VARIANTS)


def test_without_magnitude_only_what_has_none_changes_anything(noise):
    seen = drawn(RandAugment(1, 0), noise, 400)
    known = [noise, *(after(noise[None])[0][n] for n in (1, 2, 3))]
    # Solarized from a threshold of 1 on, nothing is; posterized to 8 bits, values are rounded.
    assert nearest(seen, [*known, jnp.round(noise * 255) / 255])[1].max() < 1e-5


@pytest.mark.parametrize("options", [{"count": 0}, {"magnitude": -1}, {"magnitude": 31}])
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        RandAugment(**options)
