"""Real sources and real targets, for the question whether a score that is known beforehand says
which source ends up best."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transfer.few_labels import unpacked

VEHICLES, ANIMALS = (0, 1, 8, 9), (2, 3, 4, 5, 6, 7)
"""Classes of CIFAR-10: aeroplane, automobile, ship, truck; the others."""
SHOTS, TESTED = 25, 1000
"""Labels of each class, and pictures of the test split."""
RGB = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Source(NamedTuple):
    """A network and its numbers, as parts of a run file; `frozen` where not every stage can move.

    `accuracy` on its own task, as published or measured: the trivial baseline."""

    backbone: str
    weights: Any
    head: Mapping[str, Any] | None = None
    frozen: tuple[str, ...] = ()


def sources(data: Path, work: Path) -> dict[str, Source]:
    """By name. Those in `work/sources` are trained by `rank_reached.py`."""
    found = {
        f"cifar10-resnet{depth}": Source(
            f"resnet{depth}",
            {"name": "torch", "path": str(path), "input": RGB},
        )
        for depth in (20, 32, 44, 56)
        for path in (data / "cifar_resnet").glob(f"resnet{depth}-*.th")
    }
    for name in TRAINED:
        found[name] = Source("resnet20", {"name": "run", "path": str(work / "sources" / name)})
    for name in UNLABELLED:
        path = Path(__file__).resolve().parent / "transfer" / "pretrained" / name
        found[name] = Source("resnet20", {"name": "run", "path": str(path)})
    found["imagenet-trunk"] = Source(
        "resnet18",
        {
            "name": "npz",
            "path": str(data / "resnet18_imagenet_trunk.npz"),
            "allow": ["*/stage4/*"],
            "input": {"size": 64},
        },
        {"name": "softmax", "feature": "stage3"},
        ("stem", "stage1", "stage2", "stage4"),
    )
    found["random"] = Source("resnet20", "none")
    return found


TRAINED: dict[str, dict[str, Any]] = {
    "cifar-vehicles": {"data": "vehicles_source", "epochs": 4},
    "cifar-animals": {"data": "animals_source", "epochs": 4},
    "mnist": {"data": "mnist_source", "epochs": 3},
}  # fmt: skip
"""Sources that this benchmark trains: what differs from one run file to the next."""
UNLABELLED = ("simclr", "masked")
"""Learnt from the pictures of CIFAR-10 without labels; they lie here with their run files."""
TARGETS = ("digits", "mnist", "usps", "ants-bees", "cifar-vehicles", "cifar-animals")


def target(name: str, work: Path) -> dict[str, Any]:
    """`[data]` of a target with few labels."""
    if name == "digits":
        return {"name": "digits", "shots": SHOTS, "test": TESTED}
    if name == "ants-bees":
        return {"name": "folder", "path": str(work / "hymenoptera"), "shots": 2 * SHOTS}
    return {"name": "npz", "path": str(work / "targets" / f"{name}.npz"), "shots": SHOTS}


def places(about: str) -> tuple[Path, Path]:
    """The folder of data files and that of unpacked pictures, as the command line says, filled."""
    parser = argparse.ArgumentParser(description=about)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    given = parser.parse_args()
    data, work = given.data.resolve(), given.work.resolve()
    unpacked(data, work)
    written(work)
    return data, work


def written(work: Path) -> None:
    """Pictures of sources and targets, once. No source has seen a target's test pictures, and those
    that are trained here none of its others; those of all of CIFAR-10 have seen these."""
    into = work / "targets"
    if (into / "usps.npz").exists():
        return
    into.mkdir(parents=True, exist_ok=True)
    with np.load(work / "cifar10.npz") as file:
        cifar = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    for name, classes in (("vehicles", VEHICLES), ("animals", ANIMALS)):
        train = np.flatnonzero(np.isin(cifar["y_train"], classes))
        test = np.flatnonzero(np.isin(cifar["y_test"], classes))[:TESTED]
        _save(into / f"{name}_source.npz", cifar, train[:12_000], test, classes)
        _save(into / f"cifar-{name}.npz", cifar, train[-2_000:], test, classes)
    for name in ("mnist", "usps"):
        with np.load(work / f"{name}.npz") as file:
            digits = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
        test, ten = np.arange(TESTED), tuple(range(10))
        _save(into / f"{name}_source.npz", digits, np.arange(5_000), test, ten)
        _save(into / f"{name}.npz", digits, np.arange(5_000, 7_000), test, ten)


def _save(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    classes: tuple[int, ...],
) -> None:
    where = np.zeros(10, np.int64)
    where[list(classes)] = np.arange(len(classes))
    np.savez(
        path,
        x_train=arrays["x_train"][train], y_train=where[arrays["y_train"][train]],
        x_test=arrays["x_test"][test], y_test=where[arrays["y_test"][test]],
    )  # fmt: skip
