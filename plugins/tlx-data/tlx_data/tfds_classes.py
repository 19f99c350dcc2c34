"""The classes that a prepared data set of TFDS names for its features: Python that TFDS imports.

`features.json` lies with the data and may come from a stranger, so nothing but TFDS' own features
is let through before TFDS reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlx.errors import DataError

OWN = "tensorflow_datasets.core.features."
KEYS = frozenset({"pythonClassName", "python_class_name", "type"})
"""What a class is called; `type` in files of old versions."""


def refuse_foreign(folder: Path) -> None:
    """Raise DataError where a `features.json` below `folder` names a class of anybody else's."""
    for path in _descriptions(folder):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{path} cannot be read ({error}). Prepare the data set again."
            ) from error
        for name in _named(about):
            if not name.startswith(OWN):
                raise DataError(
                    f"{path} names {name!r} for a feature, which TFDS would import: code that came "
                    f"with the data. Only TFDS' own features ({OWN}*) are opened."
                )


def _descriptions(folder: Path) -> Iterator[Path]:
    """The `features.json` below a folder, behind links too, since TFDS follows them."""
    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            inner.clear()
            continue
        seen.add(real)
        if "features.json" in files:
            yield Path(place, "features.json")


def _named(about: Any) -> Iterator[str]:
    left = [about]
    while left:  # no recursion: a stranger's data may be deeper than the stack
        value = left.pop()
        if isinstance(value, dict):
            yield from (v for k, v in value.items() if k in KEYS and isinstance(v, str))
            left += value.values()
        elif isinstance(value, list):
            left += value
