"""A sheet of images, a row for each class: whether data are what their owner thinks they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tlx_image.decode import fit

TILE, GAP, NAME = 96, 4, 160
"""Pixels of an image's side, between images, and for a class's name."""
PAPER, INK = (255, 255, 255), (30, 30, 30)


def draw_sheet(rows: Mapping[str, Sequence[np.ndarray]]) -> Image.Image:
    """The images (H,W,C) of each class in a row beside its name."""
    columns = max(map(len, rows.values()), default=0)
    height = GAP + len(rows) * (TILE + GAP)
    page = Image.new("RGB", (NAME + columns * (TILE + GAP) + GAP, height), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for row, (name, images) in enumerate(rows.items()):
        top = GAP + row * (TILE + GAP)
        short = name if len(name) <= 19 else name[:18] + "…"
        draw.text((GAP, top + TILE // 2 - 8), short, INK, font)
        for column, image in enumerate(images):
            page.paste(_tile(image), (NAME + column * (TILE + GAP), top))
    return page


def _tile(picture: np.ndarray) -> Image.Image:
    if np.issubdtype(picture.dtype, np.floating):
        picture = (255 * np.clip(np.nan_to_num(picture), 0, 1)).astype(np.uint8)
    if picture.shape[-1] != 3:
        picture = np.repeat(picture[..., :1], 3, -1)
    return Image.fromarray(np.asarray(fit(picture, (TILE, TILE)), np.uint8))
