"""Pictures and labels that lie in memory, as a split.

Grey pictures are repeated to three channels when an example is asked for, without a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np


@final
@dataclass(frozen=True, eq=False)
class Arrays:
    """`images` (N,H,W,1|3), uint8 or float 0..1; `labels` (N,) or (N,C). A Split, and Labelled."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        image = self.images[index]
        if image.shape[2] == 1:
            image = np.broadcast_to(image, (*image.shape[:2], 3))
        return {"image": image, "label": self.labels[index]}


def fingerprint(splits: Mapping[str, Arrays], classes: tuple[str, ...]) -> str:
    """sha256 over every pixel, every label, their order and the order of the classes."""
    digest = hashlib.sha256(repr(classes).encode())
    for name, split in splits.items():
        for array in (split.images, split.labels):
            digest.update(f"{name}/{array.dtype}/{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
