"""Real pictures and weights that are not part of this repository; tests skip without them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(
    os.environ.get("TLX_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")
)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A file of the shared data by name; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_file():
            pytest.skip(f"{name} is not at hand; TLX_SHARED_DATA names its folder")
        return SHARED / name

    return find


@pytest.fixture
def cifar10_test(shared) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """The first pictures (N,32,32,3) uint8 of CIFAR-10's test split, and their labels."""

    def first(count: int) -> tuple[np.ndarray, np.ndarray]:
        with np.load(shared("cifar10_test.npz")) as file:
            planes = file["residual"][:, :count].cumsum(2, dtype=np.uint8)
            labels = file["labels"][:count]
        planes = planes.cumsum(3, dtype=np.uint8)
        green = planes[0]
        return np.stack([planes[1] + green, green, planes[2] + green], -1), labels

    return first
