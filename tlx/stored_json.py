"""A JSON file that a run left in its folder, read again: whole, or a sentence about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tlx.errors import CheckpointError


def read_object(path: Path, consequence: str) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError for anything else in it; `consequence` is
    the rest of the sentence and what to do about it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass  # said below
    raise CheckpointError(f"{path} is damaged{consequence}")
