"""A sweep of 64 heads against one head, on cached features of CIFAR-10.

    python benchmarks/sweep.py [--data FOLDER] [--pictures 2000] [--epochs 10] [--rounds 5]

What the frozen ResNet-20 says of the pictures is computed once; then one head, and 64 with other
learning rates and seeds, are trained in turn. Told apart: computing the features, compiling (as
jax's own events say), training and validation. Writes results/sweep.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from compiling import Compiling
from reported import reported
from transfer.few_labels import unpacked

from tlx import config as configs
from tlx.assemble import Experiment, assemble
from tlx.feeding.cache_store import Store
from tlx.studies import together

HERE = Path(__file__).resolve().parent
POINTS, SEEDS = 16, 4


def experiment(pictures: Path, epochs: int) -> Experiment:
    table = {
        "name": "sweep", "backbone": "resnet20", "weights": "resnet20-cifar10", "epochs": epochs,
        "strategy": "feature_transfer", "batch_size": 64, "sink": [],
        "data": {"name": "npz", "path": str(pictures), "val": 500},
    }  # fmt: skip
    return assemble(configs.parse(table))


def points(whole: Experiment, count: int) -> list[dict[str, Any]]:
    rates = np.geomspace(1e-4, 1e-1, count)
    return [{**whole.constants.hyper, "learning_rate": jnp.float32(rate)} for rate in rates]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    unpacked(given.data, given.work)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.npz"
        with np.load(given.work / "cifar10.npz") as file:
            kept = {name: file[name][: given.pictures + 500] for name in ("x_train", "y_train")}
            kept |= {name: file[name][:500] for name in ("x_test", "y_test")}
        np.savez(few, **kept)
        whole, store, compiling = experiment(few, given.epochs), Store(Path(folder)), Compiling()
        begun = time.perf_counter()
        found: dict[str, list[float]] = {"one": [], "sixty-four": [], "compiling": []}
        together.prefix(whole, store)
        features = time.perf_counter() - begun - compiling.seconds
        first = whole.config.seed
        for number in range(given.rounds + 1):
            for name, count, seeds in (("one", 1, 1), ("sixty-four", POINTS, SEEDS)):
                begun, compiled = time.perf_counter(), compiling.seconds
                many = range(first, first + seeds)
                together.train_together(whole, points(whole, count), many, store)
                spent = compiling.seconds - compiled
                if number:  # the first round warms up
                    found[name].append(time.perf_counter() - begun - spent)
                    found["compiling"].append(spent)
    one, many, compiled = (statistics.median(found[name]) for name in found)
    result = {
        "what": f"{POINTS * SEEDS} heads against one, {given.pictures} pictures x {given.epochs} "
        f"epochs, ResNet-20 features, batches of 64",
        "features_seconds": features,
        "one_head_seconds": one,
        "all_heads_seconds": many,
        "compile_seconds_each": compiled,
        "all_heads_over_one": many / one,
        "sweep_adds_to_one_run": (many - one) / (features + one),
        "rounds": given.rounds,
    }
    reported("sweep", result)


if __name__ == "__main__":
    main()
