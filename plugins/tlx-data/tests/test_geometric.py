"""What moves a picture moves its mask and its box alike, and its numbers are what they were."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jax.scipy.ndimage import map_coordinates
from tlx_data.crop import Crop
from tlx_data.flip import Flip
from tlx_data.image_operations import rotation, warped
from tlx_data.resized_crop import ResizedCrop
from tlx_image import Boxes, Image, Mask
from tlx_image.resample import sample_bilinear, sample_nearest

from tlx.contracts.outside import Geometric

SIZE = (24, 32)
MASK, BOXES = Mask(("rest", "spot")), Boxes(("spot",), most=2, min_visible=0.0)
SPOTS = st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(4, 12), st.integers(4, 16))
MOVES = {
    "flip": Flip(),
    "crop": Crop(5),
    "resized_crop": ResizedCrop((0.3, 1.0)),
    "whole": ResizedCrop((1.0, 1.0), (1.0, 1.0)),
}


@lru_cache
def moving(name):
    """Pictures, masks and boxes after one change, each by the same key; compiled once."""
    change = MOVES[name]

    def one(key, image, mask, boxes):
        warp = change.draw(key, SIZE)
        return change(key, image), MASK.warp(mask, warp), BOXES.warp(boxes, warp)

    return jax.jit(jax.vmap(one, (0, None, None, None)))


@pytest.mark.parametrize("name", MOVES)
@given(SPOTS, st.integers(0, 2**16))
@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.generate])
def test_a_marked_spot_its_mask_and_its_box_end_at_one_place(name, spot, seed):
    top, left, tall, wide = spot
    top, left = top % (25 - tall), left % (33 - wide)
    image, mask = np.zeros((*SIZE, 3), np.float32), np.zeros(SIZE, np.int32)
    image[top : top + tall, left : left + wide] = 1
    mask[top : top + tall, left : left + wide] = 1
    value = BOXES.read([[top, left, top + tall, left + wide, 0]], "The boxes")
    keys = jax.random.split(jax.random.key(seed), 16)
    boxes = BOXES.encode(value, "The boxes")
    images, masks, found = jax.device_get(moving(name)(keys, image, mask, boxes))
    exact = name in ("flip", "crop")
    seen = images[..., 0]
    sure = (seen > 0.999) | ((seen < 0.001) & (masks != 255))
    np.testing.assert_array_equal(masks[sure], seen[sure] > 0.5)
    if exact:  # the picture's black is no class where it entered
        np.testing.assert_array_equal(masks == 1, seen == 1)
        assert sure.sum() + (masks == 255).sum() == masks.size
    for own, box, there in zip(masks, found["box"][:, 0], found["there"][:, 0], strict=True):
        rows, columns = np.nonzero(own == 1)
        if not len(rows):
            continue
        edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        assert there
        np.testing.assert_allclose(box, edges, atol=0 if exact else 0.5 + 1e-3)
    assert not found["there"][:, 1].any()


@pytest.mark.parametrize("name", MOVES)
def test_what_is_drawn_is_what_is_done(name):
    """To the bit where pixels stay whole: the warp sees what the call makes."""
    image = jnp.asarray(np.random.default_rng(0).random((*SIZE, 3), np.float32))
    change = MOVES[name]
    assert isinstance(change, Geometric)
    keys = jax.random.split(jax.random.key(1), 32)
    seen = jax.vmap(lambda key: change(key, image))(keys)
    for sample in (sample_nearest, sample_bilinear):
        other = jax.vmap(lambda k, s=sample: s(image, change.draw(k, SIZE), 0.0))(keys)
        if name in ("flip", "crop"):
            np.testing.assert_array_equal(seen, other)
        elif sample is sample_bilinear:  # which goes on as the part ends, and the other does not
            np.testing.assert_allclose(seen[:, 2:-2, 2:-2], other[:, 2:-2, 2:-2], atol=1e-4)
    targets = jax.vmap(lambda k: Image().warp(image, change.draw(k, SIZE)))(keys)
    np.testing.assert_array_equal(targets, other)


def test_pictures_alone_are_augmented_as_they_were():
    """To the bit, against the code of before they said how they move."""
    image = jnp.asarray(np.random.default_rng(0).random((*SIZE, 3), np.float32))

    def flipped(key):
        return jnp.where(jax.random.bernoulli(key, 0.5), image[:, ::-1], image)

    def cropped(key):
        top, left = jax.random.randint(key, (2,), 0, 11)
        padded = jnp.pad(image, ((5, 5), (5, 5), (0, 0)))
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)

    def resized(key):
        for_area, for_ratio, for_place = jax.random.split(key, 3)
        area = jax.random.uniform(for_area, (), minval=0.3, maxval=1.0)
        low, high = jnp.log(jnp.asarray((3 / 4, 4 / 3)))
        ratio = jnp.exp(jax.random.uniform(for_ratio, (), minval=low, maxval=high))
        part = jnp.minimum(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)]), 1.0)
        start = jax.random.uniform(for_place, (2,)) * (1 - part)
        size = jnp.asarray(image.shape[:2], image.dtype)
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), 1 / part, -start / part * size, "linear", antialias=True
        )

    keys = jax.random.split(jax.random.key(2), 64)
    before = {"flip": flipped, "crop": cropped, "resized_crop": resized}
    for name, old in before.items():
        now = jax.jit(jax.vmap(lambda key, own=MOVES[name]: own(key, image)))(keys)
        np.testing.assert_array_equal(now, jax.jit(jax.vmap(old))(keys))


def test_rand_augment_moves_pictures_as_it_did():
    """To the bit, against the code of before it shared the warp of images."""
    image = jnp.asarray(np.random.default_rng(0).random((*SIZE, 3), np.float32))

    def before(inverse):
        height, width = SIZE
        y, x = jnp.mgrid[0:height, 0:width] + 0.5
        from_x, from_y = (row[0] * x + row[1] * y + row[2] for row in inverse)
        inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)

        def sampled(channel):
            return map_coordinates(channel, [from_y - 0.5, from_x - 0.5], order=1, mode="nearest")

        return jnp.where(inside[..., None], jax.vmap(sampled, -1, -1)(image), 0)

    turns = jnp.linspace(-40, 40, 32)
    matrices = jax.vmap(lambda turn: rotation(turn, *SIZE).at[0, 1].add(0.01 * turn))(turns)
    now = jax.jit(jax.vmap(lambda inverse: warped(image, inverse)))(matrices)
    np.testing.assert_array_equal(now, jax.jit(jax.vmap(before))(matrices))
