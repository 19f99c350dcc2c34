"""What installed distributions say of entry points, read so that a damaged one harms no other.

The standard library stops at the first line that it cannot parse, of whatever distribution; here
each is read by itself, line by line, and what is wrong with it becomes a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

_TARGET = re.compile(r"[\w.]+\s*(:\s*[\w.]+)?\s*(\[.*\])?")


class Claim(NamedTuple):
    """One line of a distribution's entry points."""

    group: str
    name: str
    value: str
    distribution: str
    version: str


def claims(word: str) -> tuple[list[Claim], list[str]]:
    """(every entry point of a group in whose name `word` is, what is wrong with distributions).
    Of a distribution that is installed twice the first on the path counts."""
    found: list[Claim] = []
    damage: list[str] = []
    seen: set[str] = set()
    for dist in metadata.distributions():
        # Reading one file is cheap; parsing the metadata of every distribution is not.
        try:
            text = dist.read_text("entry_points.txt") or ""
        except (OSError, ValueError) as error:
            damage.append(f"The entry points of {_place(dist)} cannot be read: {error}.")
            continue
        if word not in text.lower():
            continue
        name, version, wrong = _identity(dist)
        if normal(name) not in seen:
            seen.add(normal(name))
            damage += wrong
            for entry in _entries(text, word, f"{name} {version}"):
                if isinstance(entry, str):
                    damage.append(entry)
                else:
                    found.append(Claim(*entry, name, version))
    return list(dict.fromkeys(found)), damage


def normal(distribution: str) -> str:
    """Distribution names are equal whatever their case and separators."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _entries(text: str, word: str, whose: str) -> Iterator[tuple[str, str, str] | str]:
    """(group, name, value) of every entry point, or what is wrong with a line."""
    group = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif word in group.lower() and not line.startswith(("#", ";")):
            name, equals, value = map(str.strip, line.partition("="))
            if equals and name and _TARGET.fullmatch(value):
                yield group, name, value
            else:
                yield f"An entry point of {whose} in [{group}] is no 'name = module:object': {line}"


def _identity(dist: metadata.Distribution) -> tuple[str, str, list[str]]:
    """(name, version, what is wrong), from its folder's name where it does not say them."""
    try:
        about: Any = dist.metadata
        name, version = about.get("Name"), about.get("Version")
    except Exception:  # whatever a garbled file makes of the parser
        name = version = None
    if name and version:
        return name, version, []
    stem = Path(_place(dist)).stem.split("-")
    wrong = f"{_place(dist)} lacks its METADATA, or its name or version there; install it again."
    return name or stem[0], version or (stem[1] if len(stem) > 1 else "?"), [wrong]


def _place(dist: Any) -> str:
    return str(getattr(dist, "_path", dist))
