"""Whole runs of a backbone on handwritten digits: does it transfer, and does it resume?

The kit's checks look at a backbone alone. These runs take it through the strategies as they are
installed: pre-trained for a moment, then feature transfer, fine-tuning with L2-SP, and the same
fine-tuning interrupted and resumed. They take some seconds and ask for the distributions
`tlx-data`, `tlx-heads`, `tlx-strategies`, `tlx-divergences` and `tlx-weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors.numpy import load_file

from tlx import loop
from tlx.errors import Interrupted
from tlx.study import run
from tlx.testing.claims import claim
from tlx.testing.compiling import compiled_once

STOPPED_AFTER = 13
"""Steps of the fine-tuning before it is interrupted; in the middle of an epoch."""


def transfers(backbone: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The results of the runs `source`, `feature-transfer` and `l2-sp` of a backbone, which is
    named as in a run file; they and `resumed` are left in `folder`.

    ContractError unless feature transfer leaves the backbone as it was to the bit, fine-tuning
    moves it, and the interrupted run ends with the very numbers of the other."""
    base: dict[str, Any] = {
        "name": "digits",
        "batch_size": 50,
        "eval_every": 3,
        "backbone": backbone,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "sink": [],
    }
    target = {
        **base,
        "steps": 30,
        "data": {"name": "digits", "shots": 20, "test": 600},
        "weights": f"run:{folder / 'source'}",
    }
    tuned = {
        **target,
        "strategy": "finetune",
        "divergence": [{"name": "l2_sp", "weight": 0.01}],
    }
    tables = {
        "source": {**base, "steps": 60, "data": "digits", "strategy": "finetune"},
        "feature-transfer": {**target, "strategy": "feature_transfer"},
        "l2-sp": tuned,
    }
    with compiled_once(folder / "compiled"):
        results = {name: run(table, out=folder / name) for name, table in tables.items()}
        try:
            with patch.object(loop, "interruptible", _interrupted):
                run(tuned, out=folder / "resumed")
        except Interrupted:
            run(tuned, out=folder / "resumed", resume=True)
    numbers = {name: _numbers(folder / name) for name in (*tables, "resumed")}
    source = _of_backbone(numbers["source"])
    claim(
        _of_backbone(numbers["feature-transfer"]) == source,
        "Feature transfer changed a number of the backbone, though all of it is frozen.",
    )
    claim(
        _of_backbone(numbers["l2-sp"]) != source,
        "Fine-tuning changed no number of the backbone.",
    )
    claim(
        numbers["resumed"] == numbers["l2-sp"],
        "A run that was interrupted and resumed ended with other numbers than one that was not.",
    )
    return results


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Lets the loop believe that a signal came."""
    count = iter(range(1, 10_000))
    yield lambda: next(count) >= STOPPED_AFTER


def _numbers(out: Path) -> dict[str, bytes]:
    tensors = load_file(out / "model" / "model.safetensors")
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def _of_backbone(numbers: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in numbers.items() if "/backbone/" in name}
