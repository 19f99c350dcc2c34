"""A benchmark's result with what it was measured on, printed and kept in `results/`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.reporting.describe import device, versions

RESULTS = Path(__file__).resolve().parent / "results"


def reported(name: str, result: Mapping[str, Any], **peers: str) -> None:
    """Print `result` and write it to `results/NAME.json`, with device, date, and the versions of
    tlx's distributions and of the peers that it was measured beside."""
    text = json.dumps(
        {
            **result,
            "device": device(),
            "versions": versions() | peers,
            "date": time.strftime("%Y-%m-%d"),
        },
        indent=2,
    )
    print(text)
    (RESULTS / f"{name}.json").write_text(text + "\n")
