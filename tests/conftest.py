"""A run small enough for a test, real in every part: pictures in a file, a network with batch
statistics and dropout, everything by name."""

import numpy as np
import pytest

from tlx.testing import toys

TOY = f"{toys.__file__}:ToyBackbone"


def pytest_collection_modifyitems(items):
    """Whole runs and the kit over everything first: a worker that begins one last ends alone."""
    items.sort(key=lambda item: item.path.parent.name not in ("runs", "contract"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """An .npz of 8x8 pictures in three classes that differ in colour, with noise."""
    rng = np.random.default_rng(0)

    def draw(count):
        label = np.arange(count) % 3
        image = rng.integers(0, 120, (count, 8, 8, 3))
        image[np.arange(count), :, :, label] += rng.integers(0, 120, (count, 8, 8))
        return image.astype(np.uint8), label

    path = tmp_path_factory.mktemp("pictures") / "colours.npz"
    x_train, y_train = draw(90)
    x_test, y_test = draw(50)
    np.savez(
        path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test,
        class_names=np.array(["red", "green", "blue"]),
    )  # fmt: skip
    return path


@pytest.fixture
def tiny(pictures):
    """The table of a run of 12 steps; keyword arguments replace or add top-level entries."""

    def table(**changes):
        return {
            "name": "tiny",
            "steps": 12,
            "batch_size": 10,
            "eval_every": 0.5,
            "log_every": 2,
            "checkpoint_seconds": 0,
            "data": {"name": "npz", "path": str(pictures), "val": 21},
            "backbone": TOY,
            "strategy": "finetune",
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "sink": [],
            **changes,
        }

    return table


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing is found in, or left to, the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
