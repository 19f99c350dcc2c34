"""Source models that tlx trained itself and that ship with this plugin.

Each is the model folder of a run: its weights, and beside them the preprocessing and the class
names. The run files that made them are in `benchmarks/pretrain/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlx import registry
from tlx.contracts.made_for import made_for

if TYPE_CHECKING:
    from tlx.protocols import WeightSource


@made_for("resnet20", shortcut="A", channels=3)
def resnet20_cifar10() -> WeightSource:
    """ResNet-20 (option A shortcuts) trained on CIFAR-10, with its head of ten classes."""
    folder = Path(__file__).parent / "resnet20-cifar10"
    return registry.build("weights", "run", {"path": str(folder)})
