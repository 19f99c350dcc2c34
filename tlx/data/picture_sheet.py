"""A sheet of pictures, a row for each class: whether data are what their owner thinks they are.

A look at a few pictures of every class shows what no number does: labels that are shifted by one,
channels in another order, pictures that are mostly margin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tlx.data.decode import fit
from tlx.data.splits import Subset, are_classes
from tlx.errors import TlxError

TILE, GAP, NAME = 96, 4, 160
"""Pixels of a picture's side, between pictures, and for a class's name."""
EACH, ROWS = 8, 40
"""Pictures of a class; classes that are shown."""
FIRST, FEW = 10, 6
"""Classes of a report, and pictures of each."""
PAPER, INK = (255, 255, 255), (30, 30, 30)


def sheet(part: Subset, classes: Sequence[str]) -> Image.Image:
    """Pictures of a split by class, spread evenly over it; without classes, of the whole split.
    Of many classes the first `ROWS`; what cannot be read is left out."""
    rows = _rows(part, classes)
    height = GAP + len(rows) * (TILE + GAP)
    page = Image.new("RGB", (NAME + EACH * (TILE + GAP) + GAP, height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for row, (name, places) in enumerate(rows):
        top = GAP + row * (TILE + GAP)
        short = name if len(name) <= 19 else name[:18] + "…"
        draw.text((GAP, top + TILE // 2 - 8), short, INK, font)
        for column, place in enumerate(places):
            try:
                picture = np.asarray(part[place]["image"])
            except (TlxError, OSError, ValueError):
                continue
            page.paste(_tile(picture), (NAME + column * (TILE + GAP), top))
    return page


def pictures(part: Subset, classes: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """A few pictures of each of the first classes, as they are stored (H,W,C), uint8 or float 0..1;
    what cannot be read is left out."""
    found: dict[str, list[np.ndarray]] = {}
    for name, places in _rows(part, classes)[:FIRST]:
        for place in places[:FEW]:
            try:
                found.setdefault(name, []).append(np.asarray(part[place]["image"]))
            except (TlxError, OSError, ValueError):
                continue
    return found


def _rows(part: Subset, classes: Sequence[str]) -> list[tuple[str, list[int]]]:
    labels = part.labels
    if classes and labels.ndim == 2 and labels.shape[1] == len(classes):
        several = ((name, np.flatnonzero(labels[:, k])) for k, name in enumerate(classes[:ROWS]))
        return [(name, _spread(places)) for name, places in several]
    if not are_classes(labels, tuple(classes)):
        return [(part.name, _spread(np.arange(len(part))))]
    found = ((name, np.flatnonzero(labels == k)) for k, name in enumerate(classes[:ROWS]))
    return [(name, _spread(places)) for name, places in found]


def _spread(places: np.ndarray) -> list[int]:
    at = np.linspace(0, len(places) - 1, min(EACH, len(places))).astype(int)
    return [int(place) for place in places[at]]


def _tile(picture: np.ndarray) -> Image.Image:
    if np.issubdtype(picture.dtype, np.floating):
        picture = (255 * np.clip(np.nan_to_num(picture), 0, 1)).astype(np.uint8)
    if picture.shape[-1] != 3:
        picture = np.repeat(picture[..., :1], 3, -1)
    return Image.fromarray(np.asarray(fit(picture, (TILE, TILE)), np.uint8))
