"""Sheets of pictures: each picture stands where it belongs, under its own name."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tlx_report.sheets import answers, drawings, neighbours

CLASSES = ("ant", "bee", "cat")


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 8, 8, 3), dtype=np.uint8)


def assert_shows(address, picture):
    """An address holds a picture of 8 by 8 pixels, 14 times enlarged."""
    held = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    np.testing.assert_array_equal(held[::14, ::14], picture)


@pytest.mark.parametrize(("titles", "rows", "blocks"), [(3, 5, [3, 2]), (3, 1, [1]), (6, 4, [4])])
def test_a_row_of_drawings_is_one_picture_under_every_title(titles, rows, blocks):
    given = pictures(titles, rows)
    sheet = drawings({f"title {i}": given[i] for i in range(titles)})
    assert sheet["titles"] == [f"title {i}" for i in range(titles)]
    assert [len(block) for block in sheet["blocks"]] == blocks
    for r, row in enumerate(row for block in sheet["blocks"] for row in block):
        for t, address in enumerate(row):
            assert_shows(address, given[t, r])


def test_neighbours_have_their_names_and_wrong_ones_are_told():
    asked, near = pictures(2), pictures(2, 3)
    labels, others = np.array([2, 7]), np.array([[2, 0, 2], [7, 1, 7]])
    found = {"pictures": asked, "nearest": near, "labels": labels, "nearest_labels": others}
    sheet = neighbours(found, CLASSES)
    for i, (one, row) in enumerate(sheet["rows"]):
        assert_shows(one["picture"], asked[i])
        for j, card in enumerate(row):
            assert_shows(card["picture"], near[i, j])
    assert [one["name"] for one, _ in sheet["rows"]] == ["cat", "7"]  # 7 has no name here
    assert [card["name"] for card in sheet["rows"][0][1]] == ["cat", "ant", "cat"]
    assert [[c["wrong"] for c in row] for _, row in sheet["rows"]] == [[False, True, False]] * 2
    assert sheet["agreed"].startswith("4 of these 6 ")


@pytest.mark.parametrize("classes", [CLASSES, ()])
def test_neighbours_without_labels_are_neither_named_nor_wrong(classes):
    found = {"pictures": pictures(2), "nearest": pictures(2, 3), "labels": None}
    sheet = neighbours({**found, "nearest_labels": None}, classes)
    cards = [card for one, row in sheet["rows"] for card in (one, *row)]
    assert not any(card["name"] or card["wrong"] for card in cards)
    assert not sheet["agreed"]


def test_nothing_makes_no_sheet():
    assert drawings(None) is drawings({}) is neighbours(None, CLASSES) is None
    nobody = {"pictures": pictures(0), "nearest": pictures(0, 3)}
    assert neighbours(nobody, CLASSES) is None
    assert answers((), CLASSES, 24) == [("Wrong", []), ("Right", [])]
