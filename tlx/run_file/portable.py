"""Absolute paths in a file that a run keeps, said from where that file lies.

A project is copied or moved as a whole: its pictures, its code and its runs. What lies below the
folder that tlx was started in, as the run does, is therefore written as `{here}/../photos`, where
`{here}` is the folder of the file that says it; everything else stays absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = "{here}"
_SCHEME = r"((?:[A-Za-z_][\w-]*:)?)"
_RELATIVE = re.compile(_SCHEME + re.escape(HERE) + "/(.*)", re.DOTALL)


def portable(value: Any, folder: Path) -> Any:
    """Plain data for a file in `folder`: a text that begins with the current folder (after a
    `scheme:`, too) says how to get there from `folder`, if that lies below as well."""
    home, place = os.path.realpath(os.curdir), os.path.realpath(folder)
    if os.path.commonpath([home, place]) != home or home == os.path.dirname(home):
        return value
    up = os.path.relpath(home, place)
    found = re.compile(_SCHEME + re.escape(home) + "/(.*)", re.DOTALL)

    def said(text: str) -> str:
        match = found.fullmatch(text)
        return f"{match[1]}{HERE}/{up}/{match[2]}" if match else text

    return _each(value, said)


def resolved(value: Any, folder: Path) -> Any:
    """What `portable` wrote, read again from a file in `folder`, wherever that lies now."""
    place = os.path.realpath(folder)

    def said(text: str) -> str:
        match = _RELATIVE.fullmatch(text)
        return f"{match[1]}{os.path.normpath(os.path.join(place, match[2]))}" if match else text

    return _each(value, said)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(v, change) for key, v in value.items()}
    return [_each(v, change) for v in value] if isinstance(value, list | tuple) else value
