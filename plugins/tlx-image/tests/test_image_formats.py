"""Which files are pictures, here and with pillow-heif."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from tlx_image.decode import read
from tlx_image.image_formats import HEIC, endings, learn_heic, unread_hint

from tlx.errors import DataError


@pytest.fixture
def heif(monkeypatch):
    """A pillow-heif that reads its pictures as PNG."""

    def register() -> None:
        opener, accepts = Image.OPEN["PNG"]
        monkeypatch.setitem(Image.OPEN, "HEIF", (opener, accepts))
        for ending in HEIC:
            monkeypatch.setitem(Image.EXTENSION, ending, "HEIF")

    Image.init()
    module = ModuleType("pillow_heif")
    module.register_heif_opener = register
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    learn_heic.cache_clear()
    yield
    learn_heic.cache_clear()


@pytest.fixture
def no_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    learn_heic.cache_clear()
    yield
    learn_heic.cache_clear()


def test_every_ending_that_is_said_to_be_read_is_opened_by_pillow(no_heif):
    known = endings()
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif"} <= known
    assert not known & {".pdf", ".eps", ".ps", ".mpg", ".h5", ".txt", ".heic"}


def test_photographs_of_phones(heif):
    assert endings() >= HEIC
    assert unread_hint([Path("a.heic")]) == ""


def test_what_to_do_without_it(no_heif, tmp_path):
    assert "pip install pillow-heif" in unread_hint([Path("a.txt"), Path("b.HEIC")])
    assert "save them as PNG or JPEG" in unread_hint([Path("a.cr2")])
    assert unread_hint([Path("a.txt"), Path("b.png")]) == ""
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match=r"x\.heic.*pip install pillow-heif"):
        read(tmp_path / "x.heic")
