"""Code that a stored folder names, such as the `net.py:Body` of a model: run for its author alone.

A folder is data, and may come from a stranger. Where the file lies says nothing: one that is part
of Python does harm, too, with the right options. So nothing that a folder names is run unless
this user has written the folder here, which a mark in the cache folder remembers, or says that
he trusts it. Plugins that are installed go by their names and are no such code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tlx.errors import TrustError, listed
from tlx.files.cache_folder import cache_folder
from tlx.registry import is_file

TRUSTING = "trust_code"
"""The option, of whatever opens a folder, that trusts it."""


def named(value: Any) -> tuple[str, ...]:
    """Every `FILE.py:Object` in plain data, at any depth, since an option may name a plugin, too;
    and whatever folder these data trust in their turn."""
    found: dict[str, None] = {}
    left = [value]
    while left:  # no recursion: a stranger's data may be deeper than the stack
        value = left.pop()
        if isinstance(value, str):
            found |= {value: None} if is_file(value) else {}
        elif isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
            if value.get(TRUSTING):
                place = value.get("path") or value.get("run") or value.get("name")
                found[f"what {place} names"] = None
        elif isinstance(value, Iterable):
            left += value
    return tuple(sorted(found))


def remember(file: Path, value: Any) -> None:
    """Mark `file`, just written by this user with the content `value`, as his own, if it names
    code. Without a cache folder it is a stranger's."""
    if named(value):
        try:
            mark = _mark(file)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:
            pass


def refuse(file: Path, value: Any, trust_code: bool) -> None:
    """Raise TrustError where `file` of a folder, with the content `value`, names code, and this
    user has neither written it here as it is nor trusts it."""
    if trust_code or not (code := named(value)) or _mark(file).exists():
        return
    raise TrustError(
        f"{file} would run {listed(code)}, and this user has not written that folder here, so "
        f"nothing was run; if you trust whoever did and have read the code, --trust-code runs it "
        f"({TRUSTING}=True in Python, {TRUSTING} = true in the table of a run file that names the "
        f"folder)."
    )


def _mark(file: Path) -> Path:
    """Where a file is marked as it lies and as it is."""
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    both = f"{file.resolve()}\n{content}".encode(errors="surrogateescape")
    return cache_folder() / "written" / hashlib.sha256(both).hexdigest()
