"""A JSON file that a run left in its folder, read again: whole, or a sentence about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def require(found: Any, needs: Mapping[str, Any], path: Path, consequence: str) -> None:
    """Raise CheckpointError, worded as by `read_object`, where an object that was read lacks a key
    of `needs` or holds something else there. A value of `needs` is a type, types in a tuple, or
    the needs of an object inside."""
    lacking = _lacking(found, needs)
    if lacking:
        raise CheckpointError(f"{path} is damaged, it lacks {lacking!r}{consequence}")


def _lacking(found: Any, needs: Any, at: str = "") -> str | None:
    """Where the first value that is needed is missing or something else: a dotted path."""
    if not isinstance(needs, Mapping):
        return None if isinstance(found, needs) else at
    if not isinstance(found, dict):
        return at
    inner = ((key, f"{at}.{key}".lstrip("."), need) for key, need in needs.items())
    each = (_lacking(found[k], need, to) if k in found else to for k, to, need in inner)
    return next(filter(None, each), None)
