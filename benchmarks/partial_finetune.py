"""The last stage of a ResNet-18 trained behind frozen ones, computed once or at every step.

    python benchmarks/partial_finetune.py [--pictures 192] [--epochs 20] [--rounds 2]

Two runs of tlx that differ in `cache_gb` alone, interleaved, on random pictures: time does not
depend on what they show. Both look at 32 validation pictures after every epoch. The cached time
holds the computing of what is cached; compiling, as jax's own events say, is apart. On two cores a
picture of 224 pixels costs 12.6 ms in the frozen stages and 10.6 ms in the one that is trained, so
that no number of epochs makes caching more than 2.2 times faster, and 5 of them 1.7 times. Writes
results/partial_finetune.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from compiling import Compiling
from reported import reported

from tlx import config as configs
from tlx.assemble import assemble
from tlx.loop import train
from tlx.sinks import Sinks

VAL, TEST, SIZE = 32, 32, 224
FROZEN = ["stem", "stage1", "stage2", "stage3"]


def table(pictures: Path, epochs: int, cache_gb: float) -> dict[str, Any]:
    return {
        "name": "partial", "backbone": "resnet18", "epochs": epochs, "batch_size": 16, "sink": [],
        "weights": "none", "strategy": {"name": "finetune", "frozen": FROZEN, "norm": "frozen"},
        "data": {"name": "npz", "path": str(pictures), "val": VAL},
        "cache_gb": cache_gb, "cache_disk_gb": 0,
        "optimizer": {"name": "sgd", "learning_rate": 0.01},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    rng, compiling = np.random.default_rng(0), Compiling()
    seconds: dict[str, list[float]] = {"cached": [], "recomputed": []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.npz"
        arrays: dict[str, Any] = {}
        for name, count in (("train", given.pictures + VAL), ("test", TEST)):
            shape = (count, SIZE, SIZE, 3)
            arrays[f"x_{name}"] = rng.integers(0, 256, shape, np.uint8)
            arrays[f"y_{name}"] = np.arange(count) % 2
        np.savez(pictures, **arrays)
        for number in range(given.rounds + 1):
            for name, cache_gb in (("cached", 2.0), ("recomputed", 0.0)):
                epochs = given.epochs if number else 2  # the first round warms up
                whole = assemble(configs.parse(table(pictures, epochs, cache_gb)))
                begun, before = time.perf_counter(), compiling.seconds
                with tempfile.TemporaryDirectory() as out:
                    train(whole, Path(out), Sinks([]), resume=False)
                spent = time.perf_counter() - begun - (compiling.seconds - before)
                if number:
                    seconds[name].append(spent)
    pairs = zip(seconds["cached"], seconds["recomputed"], strict=True)
    result = {
        "what": f"stage 4 and head of a ResNet-18, {given.pictures} pictures of {SIZE} "
        f"pixels x {given.epochs} epochs, batches of 16",
        "seconds": {name: round(statistics.median(each), 2) for name, each in seconds.items()},
        "times_faster": round(statistics.median(b / a for a, b in pairs), 2),
        "rounds": given.rounds,
    }
    reported("partial_finetune", result)


if __name__ == "__main__":
    main()
