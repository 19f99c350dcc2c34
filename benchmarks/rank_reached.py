"""What each source really reaches on each target: an exact probe, and fine-tuning.

    python benchmarks/rank_reached.py [--data FOLDER] [--work FOLDER]

Trains the sources that are not published (`rank_pairs.TRAINED`), then every pair with the same
recipe: 25 labels a class (50 of ants and bees), the exact head with its penalty chosen on
validation, and 60 steps of 32 pictures with SGD at 0.02 and a cosine schedule. Each finished
number is a line of results/rank_trust/reached.jsonl, so that what is stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rank_pairs import TARGETS, TRAINED, Source, places, sources, target

import tlx

HERE = Path(__file__).resolve().parent
REACHED = HERE / "results" / "rank_trust" / "reached.jsonl"
SEEDS = (0,)


def trained(work: Path) -> None:
    for name, changes in TRAINED.items():
        if not (work / "sources" / name / "result.json").exists():
            path = work / "targets" / f"{changes['data']}.npz"
            table = {
                "name": name, "backbone": "resnet20", "batch_size": 128, "sink": [],
                "optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4},
                "augmentation": ["flip", "crop"], "log_every": 20,
                **changes, "data": {"name": "npz", "path": str(path), "check": 0},
            }  # fmt: skip
            tlx.run(table, out=work / "sources" / name, overwrite=True)


def table_of(
    name: str, source: Source, aim: str, way: str, seed: int, work: Path
) -> dict[str, Any]:
    """The run file of a pair."""
    table: dict[str, Any] = {
        "name": f"{name}-{aim}-{way}", "seed": seed, "backbone": source.backbone,
        "weights": source.weights, "batch_size": 32, "sink": [], "checkpoint_seconds": 1e6,
        "data": {**target(aim, work), "split_seed": seed, "check": 0}, "steps": 60,
        "eval_every": 4.0,
    }  # fmt: skip
    if source.head:
        table["head"] = dict(source.head)
    if way == "probe":
        return {**table, "strategy": {"name": "feature_transfer", "solver": "newton"}}
    frozen = {"frozen": list(source.frozen), "norm": "frozen"} if source.frozen else {}
    return {
        **table,
        "strategy": {"name": "finetune", **frozen},
        "optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    }


def main() -> None:
    data, work = places((__doc__ or "").splitlines()[0])
    trained(work)
    REACHED.parent.mkdir(parents=True, exist_ok=True)
    lines = REACHED.read_text().splitlines() if REACHED.exists() else []
    known = [json.loads(line) for line in lines]
    there = {(each["source"], each["target"], each["way"], each["seed"]) for each in known}
    for seed in SEEDS:
        for way in ("probe", "finetune"):
            for aim in TARGETS:
                for name, source in sources(data, work).items():
                    if (name, aim, way, seed) in there:
                        continue
                    begun = time.perf_counter()
                    table = table_of(name, source, aim, way, seed, work)
                    result = tlx.run(table, out=work / "pair", overwrite=True)
                    line = {
                        "source": name, "target": aim, "way": way, "seed": seed,
                        "accuracy": result["test"]["accuracy"],
                        "seconds": round(time.perf_counter() - begun, 1),
                        "date": datetime.now(UTC).date().isoformat(),
                    }  # fmt: skip
                    with REACHED.open("a") as file:
                        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
