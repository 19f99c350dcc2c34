"""Tiny data sets in the formats that are read here, written on the spot: what the conformance kit
reads. Each function writes one below a folder and returns the options that read it.
"""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("dark", "bright")
SIZES = {"train": 8, "test": 4}


def picture(number: int) -> bytes:
    """A PNG of (6,4,3) in one shade; odd numbers are bright."""
    png = io.BytesIO()
    shade = np.full((6, 4, 3), number % 2 * 200 + number, np.uint8)
    Image.fromarray(shade).save(png, "PNG")
    return png.getvalue()


def table(folder: Path) -> dict[str, Any]:
    """A CSV and its pictures."""
    home = folder / "table"
    home.mkdir(parents=True, exist_ok=True)
    rows = [("image", "label", "split")]
    for split, size in SIZES.items():
        for number in range(size):
            rows.append((f"{split}{number}.png", CLASSES[number % 2], split))
            (home / rows[-1][0]).write_bytes(picture(number))
    with (home / "pictures.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return {"path": str(home / "pictures.csv")}


def webdataset(folder: Path) -> dict[str, Any]:
    """Two shards to train on and one to test."""
    home = folder / "webdataset"
    home.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        for shard in range(size // 4):
            with tarfile.open(home / f"{split}-{shard}.tar", "w") as archive:
                for number in range(4 * shard, 4 * shard + 4):
                    parts = {"png": picture(number), "cls": CLASSES[number % 2].encode()}
                    for ending, content in parts.items():
                        member = tarfile.TarInfo(f"{number:03d}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return {"path": str(home / "train-{0..1}.tar"), "test_path": str(home / "test-*.tar")}


def hfds(folder: Path) -> dict[str, Any]:
    """What `save_to_disk` writes."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    tables = {}
    for split, size in SIZES.items():
        pictures = [{"bytes": picture(number), "path": None} for number in range(size)]
        labels = [number % 2 for number in range(size)]
        columns = {"image": pictures, "label": labels}
        tables[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(tables).save_to_disk(folder / "hfds")
    return {"dataset": str(folder / "hfds")}
