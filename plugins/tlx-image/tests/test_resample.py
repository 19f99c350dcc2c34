"""What is seen through a warp, against indexing, Pillow and SciPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from scipy.ndimage import affine_transform
from tlx_image import Boxes, Image, ImageInput, Mask
from tlx_image.decode import fit
from tlx_image.resample import resize_part, restore_nearest, sample_bilinear, sample_nearest
from tlx_image.warp import compose, crop_plane, flip_plane, scale_plane, shift_plane

from tlx.contracts.field import Warp

RNG = np.random.default_rng(0)
TURNED = Warp(np.array([[0.9137, -0.4071, 2.3013], [0.3519, 0.9433, -1.6179]]), (11, 14), (13, 12))
"""A turn, a shear and a shift at once."""


def both(values, warp, fill):
    """Nearest on host and device, which agree."""
    host = sample_nearest(values, warp, fill)
    device = jax.jit(lambda v, m: sample_nearest(v, warp._replace(matrix=m), fill))(
        jnp.asarray(values), jnp.asarray(warp.matrix)
    )
    np.testing.assert_array_equal(host, device)
    assert host.dtype == device.dtype == values.dtype
    return host


@pytest.mark.parametrize("shape", [(13, 12), (13, 12, 3)])
def test_flips_and_shifts_are_indices(shape):
    """To the bit, on host and device, of whole numbers and of floats."""
    floats = RNG.random(shape, np.float32)
    for values in (floats, (255 * floats).astype(np.int32)):
        np.testing.assert_array_equal(both(values, flip_plane((13, 12)), 7), values[:, ::-1])
        moved = np.full_like(values, 7)
        moved[3:, :-2] = values[:-3, 2:]
        np.testing.assert_array_equal(both(values, shift_plane((13, 12), 3, -2), 7), moved)
        part = both(values, crop_plane((13, 12), (-1, 4), (6, 5)), 7)
        np.testing.assert_array_equal(part[1:], values[:5, 4:9])
        assert (part[0] == 7).all()


def test_bilinear_of_flips_and_shifts_is_exact():
    image = jnp.asarray(RNG.random((13, 12, 3), np.float32))
    for warp in (flip_plane((13, 12)), shift_plane((13, 12), 3, -2)):
        np.testing.assert_array_equal(
            sample_bilinear(image, warp), both(np.asarray(image), warp, 0)
        )


@pytest.mark.parametrize("size", [(5, 7), (13, 12), (27, 29)])
def test_nearest_is_pillows(size):
    mask = RNG.integers(0, 9, (13, 12)).astype(np.uint8)
    theirs = Pillow.fromarray(mask).resize(size[::-1], Pillow.Resampling.NEAREST)
    np.testing.assert_array_equal(both(mask, scale_plane((13, 12), size), 255), theirs)


def test_a_turn_is_scipys():
    """SciPy's coordinates are those of centres: a matrix moves the offset."""
    image = RNG.random((13, 12), np.float32)
    linear, offset = TURNED.matrix[:, :2], TURNED.matrix[:, 2]
    given = {"offset": offset + linear @ [0.5, 0.5] - 0.5, "output_shape": (11, 14), "cval": -1}
    nearest = affine_transform(image, linear, order=0, **given)
    seen, inner = both(image, TURNED, -1), nearest > 0  # of the outer half pixel it knows nothing
    assert inner.sum() > 60
    np.testing.assert_array_equal(seen[inner], nearest[inner])
    linear_ = affine_transform(image, linear, order=1, **given)
    seen = np.asarray(sample_bilinear(jnp.asarray(image)[..., None], TURNED, -1.0))[..., 0]
    np.testing.assert_allclose(seen[inner], linear_[inner], atol=1e-5)


def inputs(canvas, crop):
    return replace(ImageInput(), canvas=canvas, crop=crop)


SIDES = st.tuples(st.integers(8, 60), st.integers(8, 60))


@given(SIDES, SIDES, st.sampled_from([1.0, 0.875, 0.5]), st.data())
@settings(deadline=None, max_examples=60)
def test_a_marked_spot_its_mask_and_its_box_end_at_one_place(shape, canvas, crop, data):
    """An image is resized and cropped, a mask and a box go with it."""
    tall, wide = (data.draw(st.integers(3, side)) for side in shape)
    top, left = (
        data.draw(st.integers(0, shape[0] - tall)),
        data.draw(st.integers(0, shape[1] - wide)),
    )
    image, mask = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.uint8)
    spot = (slice(top, top + tall), slice(left, left + wide))
    image[spot], mask[spot] = 1, 1
    given = inputs(canvas, crop)
    warp = given.place(image.shape)
    placed = given.encode(image, name="The image")[..., 0]
    seen = Mask(("a", "b")).place(mask, warp, "The mask")
    assert seen.shape == placed.shape == warp.size == canvas
    assert not (seen == 255).any()  # the canvas is covered
    # Antialiasing reaches as far as a pixel of the original or of the canvas.
    sure = (placed > 0.999) | (placed < 0.001)
    np.testing.assert_array_equal(seen[sure], placed[sure] > 0.5)
    boxes = Boxes(("b",), most=1, min_visible=0.0)
    value = boxes.read([[top, left, top + tall, left + wide, "b"]], "The boxes")
    found = boxes.place(value, warp, "The boxes")
    rows, columns = np.nonzero(seen)
    if len(rows):
        assert found["there"][0]
        edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        # A mask's edge is that of the pixels whose centres are in the box.
        np.testing.assert_allclose(found["box"][0], edges, atol=0.5 + 1e-4)
    # And back, in the pixels of the original: the box where the crop left all of it.
    whole = bool(np.isclose(found["box"][0], unclipped(warp, top, left, tall, wide)).all())
    if whole:
        back = boxes.restore(found["box"], warp)
        np.testing.assert_allclose(back[0], [top, left, top + tall, left + wide], atol=1e-3)
    again = Mask(("a", "b")).restore(seen, warp)
    assert again.shape == shape
    pixel = max(shape[0] / (canvas[0] / crop), shape[1] / (canvas[1] / crop), 1)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    away = np.maximum(
        abs(y + 0.5 - top - tall / 2) - tall / 2, abs(x + 0.5 - left - wide / 2) - wide / 2
    )
    assert np.isin(again[away < -pixel], (1, 255)).all()
    assert np.isin(again[away > pixel], (0, 255)).all()


def unclipped(warp, top, left, tall, wide):
    m = warp.matrix
    y, x = ((edge - m[i, 2]) / m[i, i] for i, edge in ((0, top), (1, left)))
    low, right = ((edge - m[i, 2]) / m[i, i] for i, edge in ((0, top + tall), (1, left + wide)))
    return [y, x, low, right]


@given(SIDES, SIDES, st.sampled_from([1.0, 0.875]))
@settings(deadline=None, max_examples=40)
def test_the_plane_of_an_image_is_where_pillow_takes_it(shape, canvas, crop):
    """A ramp shows which point of the original is seen: the centre of every pixel of the canvas."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    ramp = np.stack([rows / shape[0], columns / shape[1], 0 * rows], -1).astype(np.float32)
    warp = inputs(canvas, crop).place(ramp.shape)
    placed = fit(ramp, canvas, crop)
    y = warp.matrix[0, 0] * (np.arange(canvas[0]) + 0.5) + warp.matrix[0, 2]
    x = warp.matrix[1, 1] * (np.arange(canvas[1]) + 0.5) + warp.matrix[1, 2]
    reach = 1 + np.maximum(warp.matrix[[0, 1], [0, 1]], 1)  # a kernel is cut off at the edge
    inner = (y > reach[0]) & (y < shape[0] - reach[0])
    np.testing.assert_allclose(placed[inner, 0, 0] * shape[0], y[inner], atol=0.1)
    inner = (x > reach[1]) & (x < shape[1] - reach[1])
    np.testing.assert_allclose(placed[0, inner, 1] * shape[1], x[inner], atol=0.1)


@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_an_image_that_is_a_target_is_resized_as_the_one_that_is_given(crop):
    image = RNG.integers(0, 256, (23, 31, 3), np.uint8)
    given = inputs((10, 12), crop)
    seen = Image().place(image, given.place(image.shape), "The image")
    expected = given.encode(image, name="The image")
    # Pillow resizes a box, and a whole of which that is cut out, to within a rounding.
    np.testing.assert_allclose(seen * 255, expected, atol=1.01)
    assert seen.dtype == np.float32


def test_a_part_is_resized_by_pillow_with_antialiasing():
    image = RNG.random((24, 32, 3), np.float32)
    warp = compose(crop_plane((24, 32), (4, 8), (16, 20)), scale_plane((16, 20), (4, 5)))
    theirs = np.stack([
        np.asarray(Pillow.fromarray(image[4:20, 8:28, c]).resize((5, 4), Pillow.Resampling.BOX))
        for c in range(3)
    ], -1)  # fmt: skip
    # A bilinear kernel is twice as wide as a box: the means are near, single pixels are not.
    seen = resize_part(image, warp)
    assert seen.shape == (4, 5, 3)
    assert abs(seen - theirs).max() < 0.2 < abs(image[4:20:4, 8:28:4] - theirs).max()


def test_a_mask_comes_back_in_its_own_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 16:] = 1
    warp = inputs((10, 10), 1.0).place(mask.shape)
    kind = Mask(("left", "right"))
    seen = kind.place(mask, warp, "The mask")
    back = kind.restore(seen, warp)
    assert (back[:, :4] == 255).all()  # never seen, so no class
    assert (back[:, 24:] == 255).all()
    np.testing.assert_array_equal(back[:, 4:24], mask[:, 4:24])
    coarse = kind.restore(seen[::2, ::2], warp)  # a head of half the resolution
    np.testing.assert_array_equal(coarse[:, 5:13], 0)
    np.testing.assert_array_equal(restore_nearest(seen, warp, 255), back)
