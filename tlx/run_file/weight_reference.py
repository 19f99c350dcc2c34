"""What a person types for a file of weights, as a reference that the registry knows.

What is in a file says which source reads it, else its ending, and of a folder what lies in it;
whatever is a reference already stays one. Opens without importing jax or numpy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tlx.errors import WeightsError, listed
from tlx.run_file.weight_contents import impostor, kind

ENDINGS: Mapping[str, str] = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    **dict.fromkeys((".pth", ".pt", ".th", ".bin", ".ckpt"), "torch"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
    ".msgpack": "flax",
    ".eqx": "equinox",
    ".index.json": "hf",
}
"""Ending of a file -> the source of weights that reads it."""

INSIDE: tuple[tuple[str, str], ...] = (
    ("run.toml", "run"),
    ("model.json", "run"),
    ("_METADATA", "orbax"),
    ("_CHECKPOINT_METADATA", "orbax"),
    ("manifest.ocdbt", "orbax"),
    ("config.json", "hf"),
    ("*.safetensors", "hf"),
    ("pytorch_model*.bin", "hf"),
    ("flax_model*.msgpack", "hf"),
)
"""What lies in a folder -> the source of weights that reads it; the first that is there."""


def reference(text: str) -> str:
    """`npz:a/b.npz` for `a/b.npz`, `run:runs/cats` for a run's folder, and so on; a name, a
    reference and what is none of these come back as they are. Raises WeightsError for a file
    that is there and is of no known kind."""
    # Of os.path, since what cannot be a path (too long, nobody's home) is a name like others there.
    path = Path(os.path.expanduser(text))
    if text and os.path.isdir(path):
        scheme = next((scheme for glob, scheme in INSIDE if any(path.glob(glob))), None)
    else:
        named = ":" in text and not os.path.exists(path)
        scheme = None if named else _of_file(path, text)
    return f"{scheme}:{text}" if scheme else text


def _of_file(path: Path, text: str) -> str | None:
    """The source that reads a file, which need not be there."""
    by_name = next((s for end, s in ENDINGS.items() if path.name.lower().endswith(end)), None)
    if not text or not os.path.isfile(path):
        return by_name
    if what := impostor(path):
        raise WeightsError(f"{text} is {what}.")
    scheme = kind(path) or by_name
    if scheme is None:
        raise WeightsError(
            f"{text} is a file of no known kind, neither by its ending nor by its first bytes; "
            f"known are {listed(ENDINGS)}. If it is one of them all the same, say which source "
            f"reads it: {listed(f'{name}:' for name in dict.fromkeys(ENDINGS.values()))}."
        )
    return scheme
