"""`tlx predict`: which pictures are meant, and how whatever a head says of them is printed."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from tlx_image import Image as ImageField

from tlx import cli
from tlx.commands.prediction_rows import as_cells, as_text, with_classes
from tlx.commands.value_names import value_names
from tlx.errors import DataError
from tlx.weights import saved

CLASSES = ("1", "10", "2")


def names(*given: str, stdin: bytes = b"") -> list[str]:
    return value_names(given, io.BytesIO(stdin), ImageField())


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Ten pictures of one colour, of which the number says how bright; and what lies around."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        folder = Path("photos", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        colour = (25 * number,) * 3
        Image.new("RGB", (4, 4), colour).save(folder / f"{number}.{'PNG' if number else 'jpeg'}")
    Path("photos/notes.md").write_text("no picture")
    Path("photos/.hidden").mkdir()
    Path("photos/.hidden/x.png").write_bytes(b"")
    return tmp_path


@pytest.mark.usefixtures("photos")
def test_a_folder_stands_for_its_pictures_and_those_below():
    found = names("photos")
    assert found[:2] == ["photos/a/0.jpeg", "photos/a/2.PNG"]
    assert len(found) == 10
    Path("photos/b/again").symlink_to(Path("photos").absolute())
    Path("linked").symlink_to("photos/a")
    assert len(names("photos")) == 10, "a circle of links ends"
    assert len(names("linked")) == 5
    Path("texts").mkdir()
    with pytest.raises(DataError, match=r"no image in the folder 'texts'\."):
        names("texts")
    Path("texts/a.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"only 1 other file.*svg are not read"):
        names("texts")


@pytest.mark.usefixtures("photos")
def test_a_pattern_that_no_shell_has_expanded():
    assert names("photos/*/[0-3].*") == [
        f"photos/{n}" for n in ("a/0.jpeg", "a/2.PNG", "b/1.PNG", "b/3.PNG")
    ]
    assert len(names("photos/**/*.PNG")) == 9
    assert len(names("phot*")) == 10, "a folder that matches is a folder"
    with pytest.raises(DataError, match=r"No file is called like '\*\.tif'"):
        names("*.tif")
    Path("odd[1].png").write_bytes(b"")
    assert names("odd[1].png") == ["odd[1].png"], "a file that is there is no pattern"


@pytest.mark.usefixtures("photos")
def test_lists_of_names():
    listed = "photos/a/0.jpeg\n\nphotos/b/1.PNG\n"
    wanted = ["photos/a/0.jpeg", "photos/b/1.PNG"]
    Path("list.txt").write_bytes(b"\xef\xbb\xbf" + listed.replace("\n", "\r\n").encode())
    Path("list").write_text(listed)
    for given in ("list.txt", "@list.txt", "@list"):
        assert names(given) == wanted
    assert names("-", stdin=listed.encode()) == wanted
    assert names("-", stdin="\0".join(wanted).encode()) == wanted
    Path("photos/beside.txt").write_text("a/0.jpeg\nb\n")
    assert names("photos/beside.txt") == ["photos/a/0.jpeg", *names("photos/b")]
    assert names("nowhere.png", "list.txt") == ["nowhere.png", *wanted]


@pytest.mark.usefixtures("photos")
def test_lists_that_are_none():
    Path("empty.txt").write_text("\n\n")
    Path("wide.txt").write_bytes("photos/a/0.jpeg".encode("utf-16"))
    for given, stdin, words in [
        ("empty.txt", b"", "no image in empty.txt"),
        ("@nowhere", b"", "'nowhere' cannot be read"),
        ("wide.txt", b"", "stored as UTF-16"),
        ("-", b"", "no image in what came on stdin"),
        ("-", Path("photos/a/2.PNG").read_bytes(), "names of files"),
    ]:
        with pytest.raises(DataError, match=words):
            names(given, stdin=stdin)


SOFTMAX = {
    "probabilities": np.float32([0.25, 0.5, 0.25]), "class": "10", "probability": np.float32(0.5),
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "classes", "text", "cells"),
    [
        (SOFTMAX, CLASSES, ["class 10", "probability 0.500"],
         {"class": "10", "probability": 0.5, "probabilities.1": 0.25, "probabilities.10": 0.5,
          "probabilities.2": 0.25}),
        ({"value": 2.5}, (), ["value 2.500"], {"value": 2.5}),
        ({"value": np.float32([2.5, -1])}, (), ["value 2.500, -1.000"],
         {"value.0": 2.5, "value.1": -1.0}),
        ({"value": {"height": 2.5}}, (), [], {"value.height": 2.5}),
        ({"labels": ["1", "2"]}, CLASSES, ["labels 1, 2"], {"labels": "1|2"}),
        ({"labels": []}, CLASSES, ["labels none"], {"labels": ""}),
        ({"mask": np.zeros((3, 4))}, (), ["mask (12 numbers)"], None),
    ],
)  # fmt: skip
def test_whatever_a_head_says_is_shown(answer, classes, text, cells):
    plain = with_classes(answer, classes, None)
    assert as_text(plain, None) == text
    if cells is not None:
        assert as_cells(plain, None) == cells


def test_the_most_probable_classes():
    plain = with_classes(SOFTMAX, CLASSES, 2)
    assert plain["probabilities"] == {"10": 0.5, "1": 0.25}
    assert as_text(plain, 2) == ["class 10", "probability 0.500", "10 0.500", "1 0.250"]
    assert as_cells(plain, 2) == {
        "class": "10", "probability": 0.5, "probabilities.1.class": "10", "probabilities.1": 0.5,
        "probabilities.2.class": "1", "probabilities.2": 0.25,
    }  # fmt: skip


class Brightness:
    """A model that says how bright a picture is, and counts how many it holds at a time."""

    classes = CLASSES
    read = said = most = 0

    fields: ClassVar = {"image": ImageField()}

    def encode(self, values, name):
        Brightness.read += 1
        return values

    def answer(self, encoded):
        for picture in (one["image"] for one in encoded):
            Brightness.most = max(Brightness.most, Brightness.read - Brightness.said)
            Brightness.said += 1
            share = float(picture.mean()) / 255
            chance = np.float32([share, 1 - share, 0])
            first = int(chance.argmax())
            yield {"class": CLASSES[first], "probability": chance[first], "probabilities": chance}


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(saved, "load", lambda *_, **__: Brightness())


@pytest.mark.usefixtures("photos", "model")
def test_one_picture_that_cannot_be_read_costs_the_others_nothing(capsys):
    Path("photos/a/bad.png").write_bytes(b"\x89PNG")
    assert cli.main(["predict", "run", "photos", "nowhere.png"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 10
    assert out.splitlines()[0] == "photos/a/0.jpeg   class 10  probability 1.000"
    assert "photos/a/bad.png" in err
    assert "'nowhere.png' does not exist" in err
    assert "2 of 12 images could not be read" in err
    assert cli.main(["predict", "run", "photos/a/bad.png"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert Brightness.most < 10, "not all at once"


@pytest.mark.usefixtures("photos", "model")
def test_json_says_which_class_a_probability_is_of(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/b/9.PNG\n")))
    assert cli.main(["predict", "run", "-", "photos/a/0.jpeg", "--json", "--top", "1"]) == 0
    bright, dark = json.loads(capsys.readouterr().out)
    assert bright["image"] == "photos/b/9.PNG"
    assert bright["probabilities"] == {"1": pytest.approx(225 / 255)}
    assert dark["probabilities"] == {"10": 1.0}


@pytest.mark.usefixtures("photos", "model")
def test_csv_has_a_column_for_every_class(capsys):
    assert cli.main(["predict", "run", "photos", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 10
    assert list(rows[0]) == [
        "image",
        "class",
        "probability",
        *(f"probabilities.{c}" for c in CLASSES),
    ]
    assert float(rows[-1]["probabilities.1"]) == pytest.approx(225 / 255)


def test_no_classes_are_no_number_of_classes(capsys):
    assert cli.main(["predict", "run", "x.png", "--top", "0"]) == 2
    assert "1 or more, not 0" in capsys.readouterr().err
