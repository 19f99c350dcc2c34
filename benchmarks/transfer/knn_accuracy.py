"""What the neighbours of a picture say of it: kNN accuracy of features learnt without labels.

    python benchmarks/transfer/knn_accuracy.py [--data FOLDER] [--work FOLDER]

All 10,000 test pictures of CIFAR-10 are classified by their 200 nearest of 48,000 training
pictures, with random weights, after the two pre-trainings of this folder, and with the published
supervised weights. Writes results/knn_accuracy.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from few_labels import HERE, now, unpacked

from tlx import config as configs
from tlx.assemble import assemble
from tlx.numerics.knn import knn_classes
from tlx.numerics.spread import feature_std, rankme
from tlx.reporting.describe import device
from tlx.training.health import Watch

NEIGHBOURS = 200
PART = 1000
"""Test pictures that are compared at once."""
PUBLISHED = {"simclr": 0.848, "byol": 0.868, "barlow_twins": 0.819, "dino": 0.813}
"""ResNet-18, 200 epochs, batches of 128 to 512: lightly's CIFAR-10 benchmark."""


def measured(weights: Any, work: Path) -> dict[str, float]:
    """kNN accuracy, deviation and effective rank of the features of one set of weights."""
    table = {
        "name": "knn", "backbone": "resnet20", "head": "none", "strategy": "simclr",
        "weights": weights, "batch_size": 500, "sink": [],
        "data": {"name": "npz", "path": str(work / "cifar10.npz"), "val": 2000},
    }  # fmt: skip
    experiment = assemble(configs.parse(table))
    parts = experiment.splits
    look = Watch(experiment, parts.train, parts.test)
    known, asked = (look.seen(experiment.variables, part) for part in (parts.train, parts.test))
    labels = jnp.asarray(known.labels)
    right = 0
    for first in range(0, len(asked.features), PART):
        rows = slice(first, first + PART)
        found = knn_classes(
            known.features, labels, asked.features[rows], classes=10, neighbours=NEIGHBOURS
        )
        right += int((found == asked.labels[rows]).sum())
    return {
        "knn_accuracy": right / len(asked.features),
        "feature_std": float(feature_std(asked.features)),
        "rankme": float(rankme(asked.features)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    given = parser.parse_args()
    data, work = given.data.resolve(), given.work.resolve()
    unpacked(data, work)
    known: dict[str, Any] = {
        "random weights": "none",
        "masked, 4 epochs": {"name": "run", "path": str(HERE / "pretrained" / "masked")},
        "simclr, 3 epochs": {"name": "run", "path": str(HERE / "pretrained" / "simclr")},
        "supervised, published weights": {
            "name": "torch",
            "path": str(data / "cifar_resnet" / "resnet20-12fca82f.th"),
            "input": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        },
    }
    found = {}
    for name, weights in known.items():
        found[name] = measured(weights, work)
        print(f"{name:<32} kNN {100 * found[name]['knn_accuracy']:.1f} %", flush=True)
    result = {
        "what": f"CIFAR-10, ResNet-20, {NEIGHBOURS} neighbours among 48,000, 10,000 asked",
        "measured": found,
        "published, ResNet-18, 200 epochs": PUBLISHED,
        "device": device(),
        "date": now(),
    }
    path = HERE.parent / "results" / "knn_accuracy.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
