"""What a person types for a file of weights, as a reference that the registry knows.

The ending of a file, or what lies in a folder, says which source reads it; whatever is a
reference already stays one. Opens without importing jax or numpy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tlx.errors import WeightsError, listed

ENDINGS: Mapping[str, str] = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    **dict.fromkeys((".pth", ".pt", ".th", ".bin"), "torch"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
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
)
"""What lies in a folder -> the source of weights that reads it; the first that is there."""


def reference(text: str) -> str:
    """`npz:a/b.npz` for `a/b.npz`, `run:runs/cats` for a run's folder, and so on; a name, a
    reference and what is none of these come back as they are. Raises WeightsError for a file
    that is there with an ending that nobody reads."""
    # Of os.path, since what cannot be a path (too long, nobody's home) is a name like others there.
    path = Path(os.path.expanduser(text))
    if text and os.path.isdir(path):
        scheme = next((scheme for glob, scheme in INSIDE if any(path.glob(glob))), None)
    else:
        named = ":" in text and not os.path.exists(path)
        scheme = None if named else ENDINGS.get(path.suffix.lower())
        if scheme is None and os.path.isfile(path):
            raise WeightsError(
                f"{text} is a file of no known kind; known are {listed(ENDINGS)}. If it is one of "
                f"them under another name, say so: npz:{text}."
            )
    return f"{scheme}:{text}" if scheme else text
