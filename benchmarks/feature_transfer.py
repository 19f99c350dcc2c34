"""Feature transfer from start to end beside the loop that people write, in PyTorch and in Keras.

    python benchmarks/feature_transfer.py [--pictures 2000] [--epochs 10] [--rounds 3] [--keras]

A published ResNet-20 (CIFAR-10's own, so that the task is known) is frozen and gets a new last
layer. The classic loop runs the frozen network on every batch of every epoch: PyTorch in
channels_last, without gradients for the network, and `keras.Model.fit` on jax with a frozen
backbone. tlx runs it once. All read the same pictures, train with the same SGD and look at the
same validation split after every epoch. Testing, which nobody can save, is timed apart: `seconds`
end where the head is trained, `with_test` where it is measured. One interleaved run; a round's
compilation, tlx's and Keras', is told apart by jax's own events.
Writes results/feature_transfer_EPOCHS.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from compiling import Compiling
from reported import reported
from torch.nn import functional
from torch_resnet20 import ResNet20
from transfer.few_labels import unpacked

from tlx import config as configs
from tlx.assemble import assemble
from tlx.feeding.cache_store import Store
from tlx.loop import train
from tlx.sinks import Sinks
from tlx.training.split_metrics import evaluated

HERE = Path(__file__).resolve().parent
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATE, MOMENTUM, BATCH, VAL, TEST = 0.01, 0.9, 64, 500, 2000


class Pictures(NamedTuple):
    """Arrays of a split: pictures (N,32,32,3) uint8 and labels (N,)."""

    image: np.ndarray
    label: np.ndarray


Split = dict[str, Pictures]
Once = Callable[[int], Callable[[], float]]
"""Epochs -> a new head that was trained for them, as what measures its test accuracy."""


def in_tlx(pictures: Path, weights: Path) -> tuple[Once, Split]:
    """And the pictures of its splits, for the others."""

    def table(epochs: int) -> dict[str, Any]:
        return {
            "name": "probe", "backbone": "resnet20", "epochs": epochs, "batch_size": BATCH,
            "weights": {
                "name": "torch", "path": str(weights),
                "input": {"mean": list(MEAN), "std": list(STD)},
            },
            "strategy": "feature_transfer", "sink": [], "cache_disk_gb": 0,
            "data": {"name": "npz", "path": str(pictures), "val": VAL},
            "optimizer": {"name": "sgd", "learning_rate": RATE, "momentum": MOMENTUM,
                          "weight_decay": 0.0, "schedule": "constant"},
        }  # fmt: skip

    def once(epochs: int) -> Callable[[], float]:
        whole = assemble(configs.parse(table(epochs)))
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "frozen")
            found = train(whole, Path(folder), Sinks([]), resume=False, store=store)
        used = whole.used(found.variables)
        return lambda: evaluated(whole, whole.phases[-1], used, whole.splits.test).metrics[
            "accuracy"
        ]

    parts = assemble(configs.parse(table(1))).splits
    splits = {}
    for name in ("train", "val", "test"):
        rows = [getattr(parts, name)[i] for i in range(len(getattr(parts, name)))]
        splits[name] = Pictures(
            np.stack([row["image"] for row in rows]), np.stack([row["label"] for row in rows])
        )
    return once, splits


def in_torch(splits: Split, weights: Path) -> Once:
    """The loop of PyTorch's transfer-learning tutorial, with its data already in memory."""
    tensors = {}
    for name, part in splits.items():
        image = torch.from_numpy(part.image).permute(0, 3, 1, 2).float() / 255
        image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        tensors[name] = (
            image.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(part.label.astype(np.int64)),
        )
    saved = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    names = {key.removeprefix("module."): value for key, value in saved.items()}

    def once(epochs: int) -> Callable[[], float]:
        net = ResNet20().to(memory_format=torch.channels_last)
        net.load_state_dict(names)
        net.requires_grad_(False).eval()
        net.linear = torch.nn.Linear(64, 10)
        optimizer = torch.optim.SGD(net.linear.parameters(), lr=RATE, momentum=MOMENTUM)
        x, y = tensors["train"]

        def accuracy(name: str) -> float:
            image, label = tensors[name]
            with torch.no_grad():
                parts = [net(part).argmax(1) for part in image.split(256)]
            return float((torch.cat(parts) == label).float().mean())

        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
            accuracy("val")
        return lambda: accuracy("test")

    return once


def in_keras(splits: Split, weights: Path) -> Once:
    """`fit` with a frozen backbone."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    from keras import layers
    from keras_resnet20 import resnet20

    saved = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    arrays = {key.removeprefix("module."): value.numpy() for key, value in saved.items()}

    def ready(image: np.ndarray) -> np.ndarray:
        return ((image / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)

    images = {name: ready(part.image) for name, part in splits.items()}

    def once(epochs: int) -> Callable[[], float]:
        trunk = resnet20(arrays)
        trunk.trainable = False
        net = keras.Sequential([trunk, layers.Dense(10)])
        net.compile(
            keras.optimizers.SGD(RATE, momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        net.fit(
            images["train"], splits["train"].label, batch_size=BATCH, epochs=epochs, verbose=0,
            validation_data=(images["val"], splits["val"].label),
        )  # fmt: skip
        test = images["test"], splits["test"].label
        return lambda: float(net.evaluate(*test, verbose=0)[1])

    return once


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Of every other one's seconds to tlx's, round by round."""
    return {
        name: round(statistics.median(b / a for a, b in zip(seconds["tlx"], each, strict=True)), 1)
        for name, each in seconds.items()
        if name != "tlx"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keras", action="store_true", help="beside Keras, too")
    given = parser.parse_args()
    unpacked(given.data, given.work)
    weights = given.data / "cifar_resnet" / "resnet20-12fca82f.th"
    compiling = Compiling()
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.npz"
        with np.load(given.work / "cifar10.npz") as file:
            kept = {n: file[n][: given.pictures + VAL] for n in ("x_train", "y_train")}
            kept |= {n: file[n][:TEST] for n in ("x_test", "y_test")}
        np.savez(few, **kept)
        ours, splits = in_tlx(few, weights)
        ways = {"tlx": ours, "torch": in_torch(splits, weights)}
        if given.keras:
            ways["keras"] = in_keras(splits, weights)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        tested: dict[str, list[float]] = {name: [] for name in ways}
        compiled: dict[str, list[float]] = {name: [] for name in ways}
        accuracy: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(given.rounds + 1):
            for name, once in ways.items():
                begun, before = time.perf_counter(), compiling.seconds
                test = once(given.epochs if number else 1)
                trained, training = time.perf_counter(), compiling.seconds
                reached = test()
                spent = compiling.seconds - before
                if number:  # the first round, of one epoch, warms up
                    seconds[name].append(trained - begun - (training - before))
                    tested[name].append(time.perf_counter() - begun - spent)
                    compiled[name].append(spent)
                    accuracy[name].append(reached)
    result = {
        "what": f"a new head on a frozen ResNet-20, {len(splits['train'].label):,} pictures x "
        f"{given.epochs} epochs, from assembling to a trained head",
        "seconds": {name: round(statistics.median(each), 3) for name, each in seconds.items()},
        "with_test": {name: round(statistics.median(each), 3) for name, each in tested.items()},
        "compile_seconds": {n: round(statistics.median(e), 3) for n, e in compiled.items()},
        "test_accuracy": {n: round(statistics.mean(e), 4) for n, e in accuracy.items()},
        "times_faster_than": _ratios(seconds),
        "times_faster_than_with_test": _ratios(tested),
        "rounds": given.rounds,
    }
    reported(f"feature_transfer_{given.epochs}", result, torch=torch.__version__)


if __name__ == "__main__":
    main()
