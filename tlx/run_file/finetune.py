"""The run file that `tlx finetune` writes for you."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tlx import registry
from tlx.errors import ConfigError

CHOICES = ("backbone", "weights", "strategy", "epochs", "batch_size", "lr", "seed", "name")
"""What the command line may choose; everything else goes through `--set`."""

BACKBONE = "resnet20"
"""What starts, from its packaged weights, where nothing else is asked for."""
EPOCHS = 20
RATES = {"feature_transfer": 0.03}
"""Where the run file's own default would not do: a head alone has far to go on features that are
small numbers. On ants and bees 1e-3 ends at 73.9 %, 0.03 and 0.1 at 87.6 %."""
AUGMENTATION = "light"
FILES = {
    ".npz": "npz",
    ".csv": "table",
    ".tsv": "table",
    ".tab": "table",
    ".parquet": "table",
    ".pq": "table",
    ".tar": "webdataset",
}
"""What reads a file of data, by its ending."""


def table(
    folder: str,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    strategy: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """The table of a run on `folder`; what is None is left to the run file's defaults.

    `folder` may also be an .npz file, a table of pictures (.csv, .tsv, .parquet), tar shards (.tar)
    or any reference to a dataset (`tfds:cifar10`, `digits`), `weights` a file, a run's folder or a
    reference."""
    rate = RATES.get(strategy or "") if lr is None else lr
    chosen = {
        "name": name or _slug(folder),
        "seed": seed,
        "epochs": EPOCHS if epochs is None else epochs,
        "batch_size": batch_size,
        "data": _data(folder),
        "backbone": backbone or BACKBONE,
        "weights": weights,
        "augmentation": AUGMENTATION,
        "strategy": strategy,
        "optimizer": None if rate is None else {"learning_rate": rate},
    }
    return {key: value for key, value in chosen.items() if value is not None}


def _data(folder: str) -> str:
    if folder.endswith(".toml"):
        raise ConfigError(f"{folder} is a run file, and no data. It is run by 'tlx run {folder}'.")
    if not Path(folder).exists() and (":" in folder or _is_dataset(folder)):
        return folder
    return f"{FILES.get(Path(folder).suffix.lower(), 'folder')}:{folder}"


def _is_dataset(name: str) -> bool:
    return any(plugin.name == name for plugin in registry.find("datasets"))


def _slug(folder: str) -> str:
    """The folder's name as a run's name."""
    last = Path(folder.rpartition(":")[2]).resolve().name
    return re.sub(r"[^\w.+-]+", "-", Path(last).stem).strip("-.+") or "finetune"
