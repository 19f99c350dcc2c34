"""Which pictures of a data source cannot be read, for a run that is to leave them out.

All are read once, before the splits are cut, so that who trains, selects and tests is known from
the beginning. What was found is kept in the user's cache folder for the same data.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tlx.data.splits import Subset, whole_split
from tlx.errors import TlxError
from tlx.files.cache_folder import cache_folder
from tlx.protocols import DataSource

FORM = 1
"""Of what is kept; another one is looked at anew."""


def unreadable(source: DataSource) -> dict[str, np.ndarray]:
    """Split -> numbers (N,) of its examples that cannot be read; only splits that have some."""
    digest = hashlib.sha256(repr((FORM, source.info.fingerprint)).encode()).hexdigest()
    kept = cache_folder() / "unreadable" / f"{digest}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        suspects = {str(name): [int(number) for number in known[name]] for name in known}
    except (OSError, ValueError, TypeError, RecursionError):
        suspects = None
    found = {}
    for name in source.info.splits:
        split = whole_split(source, name)
        some = range(len(split)) if suspects is None else suspects.get(name, [])
        found[name] = _unreadable(split, [number for number in some if number < len(split)])
    if suspects is None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found), encoding="utf-8")
        except OSError:
            pass  # they are read again the next time
    return {name: np.asarray(numbers, np.int64) for name, numbers in found.items() if numbers}


def _unreadable(split: Subset, numbers: Iterable[int]) -> list[int]:
    def broken(number: int) -> bool:
        try:
            _ = split[number]
            return False
        except (TlxError, OSError, ValueError):
            return True

    numbers = list(numbers)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return [n for n, bad in zip(numbers, threads.map(broken, numbers), strict=True) if bad]
