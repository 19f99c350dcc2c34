"""Which files are pictures: those that the Pillow at hand reads, by their endings.

Builds of Pillow differ in what they open (AVIF, JPEG 2000), and pillow-heif, where it is installed,
adds the photographs of phones. What a person calls a picture and nothing here reads is known by
name, so that it is told apart from a text file that lies beside the pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image

NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow lists and cannot read by itself, or reads by running another program."""
HEIC = frozenset({".heic", ".heif", ".hif"})
OTHERS = frozenset(
    {".ai", ".arw", ".avif", ".cr2", ".cr3", ".dng", ".jp2", ".jxl", ".nef", ".orf", ".raf", ".svg"}
)
"""Endings of pictures that may not be read here: vectors, raw photographs, newer codecs."""


def endings() -> frozenset[str]:
    """The endings, in lower case and with their dot, of files that are read as pictures."""
    learn_heic()
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(e for e, kind in known if kind in Image.OPEN and kind not in NO_PICTURES)


@lru_cache
def learn_heic() -> bool:
    """Teach Pillow the pictures of phones where pillow-heif is installed; whether it is."""
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    heif.register_heif_opener()
    return True


def unread_hint(files: Iterable[Path]) -> str:
    """What to do about files that are pictures and cannot be read here, as a sentence that begins
    with a space; an empty string where there are none."""
    found = sorted({file.suffix.lower() for file in files})
    if heic := [ending for ending in found if ending in HEIC and not learn_heic()]:
        return (
            f" Pictures that end in {', '.join(heic)} are read with `pip install pillow-heif` "
            f"(the extra tlx-jax[heic]); or save them as JPEG."
        )
    if others := [e for e in found if e in OTHERS and e not in endings()]:
        return (
            f" Pictures that end in {', '.join(others)} are not read here; save them as PNG or "
            f"JPEG."
        )
    return ""
