"""The user's cache folder: what may be deleted at any time and is then computed anew.

`TLX_CACHE` names it; else it is `tlx` below `XDG_CACHE_HOME` or `~/.cache`.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where it is; it need not exist."""
    if own := os.environ.get("TLX_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlx"
