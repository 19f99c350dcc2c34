"""Masks and boxes as they are handed over, encoded and shown."""

import io

import jax
import numpy as np
import pytest
from PIL import Image as Pillow
from tlx_image import Boxes, Mask
from tlx_image.warp import crop_plane, flip_plane, identity, scale_plane

from tlx import registry
from tlx.contracts.field import Field, HasClasses, Restores, Sampled, Shown, Spatial, Stratifies
from tlx.errors import ConfigError, DataError, TlxError

MASK = Mask(("road", "car", "sky"))
BOXES = Boxes(("cat", "dog"), most=3)
NUMBERS = np.array([[0, 1], [2, 255], [1, 1]], np.uint8)


@pytest.mark.parametrize("field", [MASK, BOXES], ids=lambda field: field.kind)
def test_the_contracts(field):
    promised = (Field, HasClasses, Restores, Sampled, Shown, Spatial, Stratifies)
    assert all(isinstance(field, contract) for contract in promised)
    assert type(registry.build("fields", field.kind, {"classes": ["a"]})) is type(field)
    for value in field.samples(np.random.default_rng(0), 3):
        encoded = field.encode(value, "It")
        placed = field.place(value, identity((12, 10)), "It")
        jax.tree.map(np.testing.assert_array_equal, encoded, placed)


def bytes_of(picture, form="PNG"):
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def test_every_form_of_a_mask_gives_the_same_numbers(tmp_path):
    grey = Pillow.fromarray(NUMBERS)
    palette = Pillow.fromarray(NUMBERS)
    palette.putpalette([255 - n // 3 for n in range(768)])  # colours that are not the numbers
    wide = Pillow.fromarray(NUMBERS.astype(np.uint16))
    forms = [NUMBERS, NUMBERS[..., None], NUMBERS.astype(np.int64), grey, palette, wide]
    for number, picture in enumerate((grey, palette, wide)):
        picture.save(tmp_path / f"{number}.png")
        forms += [tmp_path / f"{number}.png", str(tmp_path / f"{number}.png"), bytes_of(picture)]
        forms.append(io.BytesIO(bytes_of(picture)))
    assert palette.mode == "P"
    for form in forms:
        value = MASK.read(form, "The mask")
        np.testing.assert_array_equal(MASK.read(value, "The mask"), NUMBERS)
        assert MASK.encode(value, "The mask").dtype == np.int32
    assert MASK.strata(NUMBERS) == [0, 1, 2]
    black = Mask(("no", "yes")).read(NUMBERS == 1, "The mask")
    np.testing.assert_array_equal(black, NUMBERS == 1)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (Pillow.new("RGB", (2, 2)), "colours of RGB"),
        (np.zeros((2, 2, 3), np.uint8), r"array \(2, 2, 3\)"),
        (np.zeros((2, 2)), "array .* of float64"),
        (b"none", "cannot be read as a mask"),
        ("nowhere.png", "does not exist"),
        (7, "is int, and no mask"),
        (np.zeros((0, 2), np.uint8), "array"),
    ],
)
def test_what_is_no_mask(raw, says):
    with pytest.raises(DataError, match=says):
        MASK.read(raw, "The mask")


def test_numbers_that_are_no_class_and_other_sizes():
    with pytest.raises(DataError, match=r"The mask holds 3, 9, and the classes are 0 to 2"):
        MASK.encode(np.array([[0, 9, 3]]), "The mask")
    with pytest.raises(DataError, match=r"shape \(3, 2\), and its image is 4 x 4"):
        MASK.place(NUMBERS, identity((4, 4)), "The mask")
    with pytest.raises(ConfigError, match=r"ignore = 1 is the number of the class 'car'"):
        Mask(("road", "car"), ignore=1)


def test_a_mask_is_shown_in_the_colours_of_pascal_voc():
    shown = MASK.show(NUMBERS)
    expected = [[(0, 0, 0), (128, 0, 0)], [(0, 128, 0), (255, 255, 255)], [(128, 0, 0)] * 2]
    np.testing.assert_array_equal(shown, np.array(expected, np.uint8))


def test_every_form_of_boxes_gives_the_same_arrays():
    rows = [[1, 2, 5, 4, "dog"], [0, 0, 2.5, 3, 0]]
    maps = [{"box": row[:4], "class": row[4]} for row in rows]
    mixed = [{"box": np.array(rows[0][:4]), "class": 1}, rows[1]]
    for raw in (rows, maps, mixed, tuple(map(tuple, rows))):
        value = BOXES.read(raw, "The boxes")
        np.testing.assert_array_equal(value["box"], np.array([[1, 2, 5, 4], [0, 0, 2.5, 3]]))
        np.testing.assert_array_equal(value["class"], [1, 0])
        again = BOXES.read(value, "The boxes")
        jax.tree.map(np.testing.assert_array_equal, value, again)
    encoded = BOXES.encode(value, "The boxes")
    assert {k: (v.shape, v.dtype.name) for k, v in encoded.items()} == {
        "box": ((3, 4), "float32"), "class": ((3,), "int32"), "there": ((3,), "bool"),
    }  # fmt: skip
    assert encoded["there"].tolist() == [True, True, False]
    assert BOXES.decode(encoded) == [
        {"box": [1, 2, 5, 4], "class": "dog"}, {"box": [0, 0, 2.5, 3], "class": "cat"},
    ]  # fmt: skip
    assert BOXES.strata(value) == [0, 1]
    assert BOXES.show(value) == "dog 1 2 5 4; cat 0 0 2.5 3"
    empty = BOXES.encode(BOXES.read([], "The boxes"), "The boxes")
    assert not empty["there"].any()
    assert BOXES.decode(empty) == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([[1, 2, 5, 4]], "box 0, is"),
        ([[5, 2, 1, 4, 0]], "y0 < y1"),
        ([[1, 2, 5, float("nan"), 0]], "y0, x0, y1, x1"),
        ([[1, 2, 5, 4, "dgo"]], "'dgo', no class. Did you mean 'dog'"),
        ([[1, 2, 5, 4, 2]], "class 2; classes have the numbers 0 to 1"),
        ([{"bbox": [1, 2, 5, 4]}], "box 0, has bbox"),
        (7, "cannot be read as boxes"),
        ([7], "cannot be read as boxes"),
    ],
)
def test_what_are_no_boxes(raw, says):
    with pytest.raises(TlxError, match=says):
        BOXES.read(raw, "The boxes")


def test_more_boxes_than_are_kept():
    value = BOXES.read([[0, 0, 1, 1, 0]] * 4, "The boxes")
    with pytest.raises(DataError, match=r"has 4 boxes, and at the most 3 are kept.*most = 4"):
        BOXES.encode(value, "The boxes")
    for options in ({"most": 0}, {"min_visible": 2.0}):
        with pytest.raises(ConfigError, match="min_visible"):
            Boxes(("a",), **options)


def moved(boxes, rows, warp):
    return boxes.place(boxes.read(rows, "The boxes"), warp, "The boxes")


def test_boxes_are_mirrored_scaled_and_cut_off():
    rows = [[1, 2, 5, 4, 1]]
    assert moved(BOXES, rows, flip_plane((8, 10)))["box"][0].tolist() == [1, 6, 5, 8]
    assert moved(BOXES, rows, scale_plane((8, 10), (4, 30)))["box"][0].tolist() == [0.5, 6, 2.5, 12]
    cut = moved(BOXES, rows, crop_plane((8, 10), (2, 3), (6, 6)))
    assert cut["box"][0].tolist() == [0, 0, 3, 1]
    assert cut["there"].tolist() == [True, False, False]


def test_a_box_of_which_too_little_is_left_is_gone():
    rows = [[0, 0, 4, 4, 1], [4, 4, 8, 8, 1]]
    warp = crop_plane((8, 8), (3, 0), (5, 8))  # a quarter of the first is left
    for least, left in ((0.25, [True, True]), (0.26, [False, True])):
        found = moved(Boxes(("a", "b"), most=2, min_visible=least), rows, warp)
        assert found["there"].tolist() == left
    assert found["class"].tolist() == [0, 1]
    assert found["box"].tolist() == [[0, 0, 0, 0], [1, 4, 5, 8]]
    outside = crop_plane((8, 8), (8, 8), (4, 4))
    assert not moved(Boxes(("a", "b"), most=2, min_visible=0.0), rows, outside)["there"].any()
    # What lay outside of the image counts for nothing.
    half = moved(Boxes(("a",), most=1, min_visible=0.9), [[-4, 0, 4, 4, 0]], identity((8, 8)))
    assert half["there"].tolist() == [True]
    assert half["box"].tolist() == [[0, 0, 4, 4]]
