"""A tiny data set in TFDS' own format, prepared on the spot: what the conformance kit reads.

TFDS wants a builder to live in a package, so it lives here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class TlxSample(tfds.core.GeneratorBasedBuilder):
    """Pictures (6,4,3) in two shades."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(6, 4, 3)),
            "label": tfds.features.ClassLabel(names=["dark", "bright"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Any]:
        return {"train": self._generate_examples(8), "test": self._generate_examples(4)}

    def _generate_examples(self, count: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number in range(count):
            png = io.BytesIO()
            shade = np.full((6, 4, 3), number % 2 * 200 + number, np.uint8)
            Image.fromarray(shade).save(png, "PNG")
            png.seek(0)
            yield number, {"image": png, "label": number % 2}


def sample(folder: Path) -> dict[str, Any]:
    """Prepare the set below `folder`; the options of `Tfds` that read it."""
    data_dir = str(folder / "tfds")
    TlxSample(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return {"dataset": "tlx_sample", "data_dir": data_dir}
